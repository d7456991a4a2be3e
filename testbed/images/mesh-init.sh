# What a mesh's init container does: redirects the pod's connections to the proxy of mesh-haproxy.cfg, which runs as user
# 1337. The argument says whose chains: istio (istio.io, tools/istio-iptables) or linkerd (linkerd2-proxy-init).
set -eu

nat() {
    iptables-nft -w -t nat "$@"
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

"$1"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=mesh \
    -keyout /certs/key -out /certs/certificate 2> /certs/log
cat /certs/certificate /certs/key > /certs/proxy.pem
chmod 644 /certs/proxy.pem
