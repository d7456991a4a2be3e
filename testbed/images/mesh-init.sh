# What a mesh's init container does: redirects the pod's connections to the proxy of mesh-haproxy.cfg, which runs as user
# 1337. The argument says whose chains: istio (istio.io, tools/istio-iptables), linkerd (linkerd2-proxy-init) or ambient
# (istio.io, cni/pkg/iptables), whose node lays them into the pod.
set -eu

nat() {
    iptables-nft -w -t nat "$@"
}

mangle() {
    iptables-nft -w -t mangle "$@"
}

istio() {
    for chain in ISTIO_INBOUND ISTIO_IN_REDIRECT ISTIO_OUTPUT ISTIO_REDIRECT; do
        nat -N $chain
    done
    nat -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
    nat -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
    nat -A PREROUTING -p tcp -j ISTIO_INBOUND
    for port in 15008 15090 15021 15020; do
        nat -A ISTIO_INBOUND -p tcp --dport $port -j RETURN
    done
    nat -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
    nat -A OUTPUT -p tcp -j ISTIO_OUTPUT
    nat -A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN
    for owner in --uid-owner --gid-owner; do
        nat -A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner $owner 1337 -j ISTIO_IN_REDIRECT
        nat -A ISTIO_OUTPUT -o lo -m owner ! $owner 1337 -j RETURN
        nat -A ISTIO_OUTPUT -m owner $owner 1337 -j RETURN
    done
    nat -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
    nat -A ISTIO_OUTPUT -j ISTIO_REDIRECT
}

linkerd() {
    nat -N PROXY_INIT_REDIRECT
    nat -A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 4190,4191,15020 -j RETURN
    nat -A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-port 4143
    nat -A PREROUTING -j PROXY_INIT_REDIRECT
    nat -N PROXY_INIT_OUTPUT
    nat -A PROXY_INIT_OUTPUT -m owner --uid-owner 1337 -j RETURN
    nat -A PROXY_INIT_OUTPUT -o lo -j RETURN
    nat -A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-port 15001
    nat -A OUTPUT -j PROXY_INIT_OUTPUT
}

# The node's proxy has its sockets in the pod, marks what it sends there, and connects to the app from the client's address;
# answers find back to it by a mark of their own. The kubelet's probes come from an address that the node gives them.
ambient() {
    probes=169.254.7.127/32
    ip rule add fwmark 0x111/0xfff pref 32764 lookup 100
    ip route add local 0.0.0.0/0 dev lo table 100
    for table in mangle nat; do
        $table -N ISTIO_PRERT
        $table -A PREROUTING -j ISTIO_PRERT
        $table -N ISTIO_OUTPUT
        $table -A OUTPUT -j ISTIO_OUTPUT
    done
    mangle -A ISTIO_PRERT -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
    mangle -A ISTIO_OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
    # As the node's proxy does by itself.
    mangle -A ISTIO_OUTPUT -m owner --gid-owner 1337 -j MARK --set-xmark 0x539/0xfff
    nat -A ISTIO_PRERT -s $probes -p tcp -j ACCEPT
    nat -A ISTIO_PRERT ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006
    nat -A ISTIO_OUTPUT -d $probes -p tcp -j ACCEPT
    nat -A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
    nat -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -j ACCEPT
    nat -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
}

"$1"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=mesh \
    -keyout /certs/key -out /certs/certificate 2> /certs/log
cat /certs/certificate /certs/key > /certs/proxy.pem
chmod 644 /certs/proxy.pem
