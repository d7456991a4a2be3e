# Run once inside the node's fresh namespaces, before anything else: node-setup.sh DIRECTORY...

# Private to this mount namespace already (unshare); within it the kubelet wants volumes to propagate.
mount --make-rshared /
# In memory: nothing of it is to stay, it goes with the namespace, and the disk's pace is not measured with what is tested.
for directory; do
    mount -t tmpfs -o mode=755,size=75% node "$directory"
done

# The kubelet insists on these, machine-wide. It is shown what it wants to see; the machine keeps what it has.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=/run/sysctl/${setting%%=*}
    mkdir -p "${file%/*}"
    echo "${setting#*=}" > "$file"
    mount --bind "$file" "/proc/sys/${setting%%=*}"
done

echo @NODE_NAME@ > /proc/sys/kernel/hostname
echo 1 > /proc/sys/net/ipv4/ip_forward
ip link set lo up
ip address add @NODE@/30 dev eth0
ip link set eth0 up
# Services have no device: this only makes the node itself try, and kube-proxy then rewrites the address. There is no
# default route: nothing leaves the machine.
ip route add @SERVICES@ dev eth0
nft -f @CONFIG@/node.nft
