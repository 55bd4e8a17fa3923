#!/bin/bash
# Records the captures of this folder: real programs between network namespaces, in about three minutes.
#
# Usage: pcaps/record.sh [FOLDER]      (as root; FOLDER is where the captures go, default the script's own)
# It needs no network, leaves no namespace, process or file behind, and ends by itself.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
target=${1:-$here}
tools=$here/tools
readonly LIMIT_S=280          # the whole run is stopped after this
readonly TOPIC_S=36           # phase 1: one capture a topic, at recorded speed
readonly MIXED_S=120          # phase 2: everything at once, stretched afterwards
readonly STRETCH=75           # so 0.8 s become a minute, and two minutes two and a half hours
readonly EXPORT_PORT=2055

# ---- What it needs -------------------------------------------------------------------------------------------------
missing=
need() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=" $2"; }
need ip iproute2; need ethtool ethtool; need nginx nginx-light; need curl curl; need dig bind9-dnsutils
need dnsmasq dnsmasq-base; need ssh openssh-client; need sshd openssh-server; need nmap nmap; need ping iputils-ping
need tcpdump tcpdump; need softflowd softflowd; need openssl openssl; need zstd zstd; need python3 python3
[ -z "$missing" ] || { echo "record.sh: missing, install with: apt-get install$missing" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "record.sh: must run as root (network namespaces, port 22, raw sockets)" >&2; exit 2; }
[ -e /dev/net/tun ] || { echo "record.sh: needs the TUN device (/dev/net/tun)" >&2; exit 2; }
export PATH=$PATH:/usr/sbin:/sbin

# ---- Namespaces, and their end -------------------------------------------------------------------------------------
tag=weir$$
work=$(mktemp -d "/tmp/$tag.XXXXXX")
namespaces=()
own_pids=()
made_run_sshd=

clean_up() {
    trap - EXIT INT TERM
    local ns pids
    kill "${own_pids[@]}" 2>/dev/null || true
    for signal in TERM KILL; do
        for ns in "${namespaces[@]}"; do
            # Only this run's own processes can be in the namespaces that it made.
            pids=$(ip netns pids "$ns" 2>/dev/null) || true
            [ -z "$pids" ] || kill -"$signal" $pids 2>/dev/null || true
        done
        sleep 0.5
    done
    for ns in "${namespaces[@]}"; do
        ip netns del "$ns" 2>/dev/null || true
        rm -rf "/etc/netns/$ns"
    done
    rmdir --ignore-fail-on-non-empty /etc/netns 2>/dev/null || true
    [ -z "$made_run_sshd" ] || rmdir /run/sshd 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'echo "record.sh: stopped" >&2; exit 1' INT TERM
python3 -c "import os, sys, time; time.sleep($LIMIT_S); print('record.sh: took longer than $LIMIT_S s', file=sys.stderr)
os.kill($$, 15)" &
own_pids+=($!)

enter() { # NAME COMMAND...: becomes a command in a namespace, with nothing of this machine's environment
    local ns=$tag-$1; shift
    exec ip netns exec "$ns" env -i PATH="$PATH" HOME="$work" LC_ALL=C CA="$work/ca.pem" SSH_KEY="$work/key" \
        BACKUP_FILE="$work/backup" CHUNK_FILE="$work/chunk-$ns" RESULT_FILE="$work/result-$ns" "$@"
}
inside() { (enter "$@"); }
serve() { enter "$@" >>"$work/servers.log" 2>&1 & }
actor() { # NAME ROLE OPTIONS...: a client; `finish` waits for all of them
    enter "$1" python3 "$tools/actors.py" "${@:2}" >>"$work/actors.log" 2>&1 &
    actors+=($!)
}
finish() { wait "${actors[@]}"; actors=(); }
namespace() {
    local ns=$tag-$1
    ip netns add "$ns"
    namespaces+=("$ns")
    mkdir -p "/etc/netns/$ns"
    echo "nameserver 198.51.100.53" >"/etc/netns/$ns/resolv.conf"
    echo "hosts: files dns" >"/etc/netns/$ns/nsswitch.conf"
    echo "127.0.0.1 localhost" >"/etc/netns/$ns/hosts"
    inside "$1" sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
        net.ipv6.conf.default.router_solicitations=0 net.ipv6.conf.default.accept_ra=0
    inside "$1" ip link set lo up
}

# ---- Topology: hosts -- bridge of the router == wide-area links == the internet and the wrong end of it ------------
host() { # NAME LAST_OCTET
    namespace "$1"
    ip -n "$tag-router" link add "port$2" type veth peer name eth0 address "02:00:0a:14:00:$(printf %02x "$2")" \
        netns "$tag-$1"
    ip -n "$tag-router" link set "port$2" master lan up
    ip -n "$tag-$1" link set eth0 up
    # Without offloads each frame is what a wire would carry: no giants, checksums right.
    inside "$1" ethtool -K eth0 tso off gso off gro off tx off rx off >/dev/null
    inside router ethtool -K "port$2" tso off gso off gro off tx off rx off >/dev/null
    ip -n "$tag-$1" address add "10.20.0.$2/24" dev eth0
    ip -n "$tag-$1" address add "2001:db8:20::$2/64" dev eth0
    ip -n "$tag-$1" route add default via 10.20.0.1
    ip -n "$tag-$1" route add default via 2001:db8:20::1
}
wan() { # NAME DEVICE DELAY_MS JITTER_MS ADDRESS...: addresses beyond a link; clients there use the first
    local far=$1 device=$2 delay=$3 jitter=$4 address; shift 4
    namespace "$far"
    ip -n "$tag-router" tuntap add mode tun name "$device"
    ip -n "$tag-router" link set "$device" up
    ip -n "$tag-$far" tuntap add mode tun name wan0
    ip -n "$tag-$far" link set wan0 up
    for address in "$@"; do
        ip -n "$tag-$far" address add "$address" dev lo
        ip -n "$tag-router" route add "$address" dev "$device"
    done
    ip -n "$tag-$far" route add 10.20.0.0/24 dev wan0 src "${1}"
    ip -n "$tag-$far" route add 2001:db8:20::/64 dev wan0
    python3 "$tools/wan.py" "$tag-router:$device" "$tag-$far:wan0" --delay-ms "$delay" --jitter-ms "$jitter" &
    own_pids+=($!)
}

echo "building the network"
namespace router
ip -n $tag-router link add lan address 02:00:0a:14:00:01 type bridge mcast_snooping 0
ip -n $tag-router link set lan up
ip -n $tag-router address add 10.20.0.1/24 dev lan
ip -n $tag-router address add 2001:db8:20::1/64 dev lan
inside router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
host desk1 11; host desk2 12; host server 13; host scanner 14
wan net wan0 8 1 198.51.100.80 198.51.100.53 198.51.100.22 198.51.100.81 198.51.100.90 198.51.100.123 \
    2001:db8:80::80 2001:db8:80::81
wan bad wan1 21 3 203.0.113.99 203.0.113.10 203.0.113.66

# ---- Servers -------------------------------------------------------------------------------------------------------
mkdir -p "$work"/{www,in,tmp,out}
for page in $(seq 0 7); do head -c $((4000 + 3500 * page)) /dev/urandom | base64 >"$work/www/page$page.html"; done
for part in $(seq 0 15); do head -c $((1500 + 2700 * part)) /dev/urandom >"$work/www/part$part.bin"; done
for poll in $(seq 0 3); do head -c $((48 + 16 * poll)) /dev/urandom >"$work/www/poll$poll"; done
head -c 2200 /dev/urandom | base64 >"$work/www/InRelease"
head -c 220000 /dev/urandom >"$work/www/package.deb"
head -c 900 /dev/urandom | base64 >"$work/www/status.html"
head -c 1500000 /dev/urandom >"$work/backup"
chmod 755 "$work" "$work/www"
chmod 777 "$work/in" "$work/tmp"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -keyout "$work/ca.key" \
    -out "$work/ca.pem" -subj "/CN=Example Test CA" 2>/dev/null
for name in www.example.com sync.example.org; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$work/$name.key" \
        -out "$work/$name.csr" -subj "/CN=$name" 2>/dev/null
    names=DNS:$name,DNS:cdn.example.net
    [ $name = www.example.com ] || names=DNS:$name,DNS:files.example.org
    openssl x509 -req -in "$work/$name.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -days 30 -out "$work/$name.pem" \
        -extfile <(echo "subjectAltName=$names") 2>/dev/null
done

web() { # NAME CERTIFICATE: nginx in the foreground, HTTP and HTTPS, uploads taken at /in/
    cat >"$work/nginx-$1.conf" <<CONF
daemon off; pid $work/nginx-$1.pid; error_log $work/nginx-$1.log; worker_processes 1; user root;
events { worker_connections 256; }
http {
    access_log off; server_tokens off; client_max_body_size 32m; default_type text/html;
    client_body_temp_path $work/tmp/b$1; proxy_temp_path $work/tmp/p$1; fastcgi_temp_path $work/tmp/f$1;
    uwsgi_temp_path $work/tmp/u$1; scgi_temp_path $work/tmp/s$1;
    ssl_certificate $work/$2.pem; ssl_certificate_key $work/$2.key; ssl_protocols TLSv1.2 TLSv1.3;
    server {
        listen 80; listen [::]:80; listen 443 ssl http2; listen [::]:443 ssl http2;
        root $work/www;
        location /in/ { root $work; dav_methods PUT; }
    }
}
CONF
    serve "$1" nginx -c "$work/nginx-$1.conf"
}
web net www.example.com
web bad sync.example.org
web server www.example.com

records=(--host-record=www.example.com,198.51.100.80,2001:db8:80::80
    --host-record=cdn.example.net,198.51.100.81,2001:db8:80::81
    --host-record=mail.example.com,198.51.100.22 --host-record=updates.example.net,198.51.100.90
    --host-record=time.example.net,198.51.100.123 --host-record=sync.example.org,203.0.113.10
    --host-record=files.example.org,203.0.113.66 --mx-host=example.com,mail.example.com,10
    --txt-record=example.com,"v=spf1 ip4:198.51.100.0/24 -all")
serve net dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file= \
    --bind-interfaces --listen-address=198.51.100.53 --local-ttl=60 --cache-size=0 --log-facility="$work/dns.log" \
    --local=/example.com/ --local=/example.net/ --local=/example.org/ --local=/in-addr.arpa/ "${records[@]}"

[ -d /run/sshd ] || { mkdir -m 755 /run/sshd; made_run_sshd=yes; }
ssh-keygen -q -t ed25519 -N '' -C '' -f "$work/key"
ssh-keygen -q -t ed25519 -N '' -C '' -f "$work/hostkey"
cat >"$work/sshd.conf" <<CONF
HostKey $work/hostkey
AuthorizedKeysFile $work/key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
PidFile none
UseDNS no
Subsystem sftp internal-sftp
CONF
serve net "$(command -v sshd)" -D -e -f "$work/sshd.conf" -o ListenAddress=198.51.100.22
serve server "$(command -v sshd)" -D -e -f "$work/sshd.conf" -o ListenAddress=10.20.0.13
serve net python3 "$tools/actors.py" serve-ntp --to 198.51.100.123
serve server python3 "$tools/actors.py" serve-telnet --to 10.20.0.13
sleep 1.5

# ---- Capture: on the router's inside bridge, which sees the hosts among each other too -----------------------------
captures=()
watch() { # FILE FILTER [TCPDUMP OPTIONS...]
    enter router tcpdump -p -i lan -Z root -B 16384 -w "$work/$1" "${@:3}" "$2" 2>"$work/$1.log" &
    captures+=($!)
}
watching() { # waits until each capture of these names has begun
    local name
    for name in "$@"; do
        for _ in $(seq 100); do
            grep -q '^tcpdump: listening' "$work/$name.log" && continue 2
            sleep 0.1
        done
        echo "record.sh: tcpdump did not start: $(cat "$work/$name.log")" >&2
        exit 1
    done
}
stop_watching() { # waits until the files are whole; a packet that the kernel dropped makes the recording void
    sleep 2 # the kernel hands over a block that is not full after a second
    kill -TERM "${captures[@]}"
    wait "${captures[@]}" || true
    captures=()
    if grep -l '^[1-9][0-9]* packets dropped by kernel' "$work"/*.log; then
        echo "record.sh: the captures above lost packets; run again on a quieter machine" >&2
        exit 1
    fi
}
ip -n $tag-router link set lan promisc on
actors=()

echo "phase 1: one capture a topic ($TOPIC_S s)"
watch web.pcap "host 10.20.0.11 and (host 198.51.100.80 or host 198.51.100.81) and tcp"
watch ipv6.pcap "ip6 and host 2001:db8:20::11"
watch dns.pcap "host 10.20.0.13 and host 198.51.100.53 and port 53"
watch ssh.pcap "tcp port 22 and host 10.20.0.12"
watch cleartext.pcap "host 10.20.0.12 and host 10.20.0.13 and (tcp port 23 or tcp port 80)"
watch scan.pcap "host 10.20.0.14 or host 203.0.113.99"
watch beacon.pcap "host 203.0.113.10"
watch upload.pcap "host 203.0.113.66"
watch ntp-ping.nano.pcap "ip and (icmp or udp port 123)" --time-stamp-precision=nano
watching web.pcap ipv6.pcap dns.pcap ssh.pcap cleartext.pcap scan.pcap beacon.pcap upload.pcap ntp-ping.nano.pcap
actor desk1 browse --seconds 30 --period 3.5 --jitter 0.6
actor desk1 browse --seconds 30 --period 6 --jitter 0.5 --families 6 --seed 2
actor desk1 ping --to 2001:db8:80::80 --seconds 20 --period 12 --offset 2
actor server dns --to 198.51.100.53 --seconds 30 --period 0.3 --jitter 0.9
actor desk2 ssh --to 198.51.100.22 --seconds 28 --period 10 --offset 1
actor desk2 telnet --to 10.20.0.13 --seconds 20 --period 12 --offset 3
actor desk2 intranet --to 10.20.0.13 --seconds 30 --period 8 --offset 4
actor scanner scan --to 10.20.0.13 --seconds 10 --offset 5
actor bad scan --to 10.20.0.13 --seconds 20 --offset 15
actor desk1 beacon --seconds $((TOPIC_S - 2)) --period 2 --jitter 0.2
actor desk2 trickle --seconds $((TOPIC_S - 4)) --period 1 --jitter 0.4
actor desk1 ntp --to 198.51.100.123 --seconds 30 --period 4
actor server ping --to 198.51.100.80 --seconds 20 --period 8
finish
stop_watching

echo "phase 2: everything at once ($MIXED_S s)"
watch mixed.pcap "ip or ip6 or arp"
watching mixed.pcap
actor desk1 browse --seconds $MIXED_S --period 2.4 --jitter 0.9 --seed 3
actor desk2 browse --seconds $MIXED_S --period 3.2 --jitter 0.9 --seed 4 --families 4,6
actor desk1 beacon --seconds $MIXED_S --period 0.8 --jitter 0.2 --seed 5
actor desk2 upload --seconds $MIXED_S --period 1.4 --jitter 0.4 --seed 6
seed=10
for host in desk1 desk2 server; do
    seed=$((seed + 1))
    # Polls of 1.707 s become 128 s, one of ntpd's intervals.
    actor $host ntp --to 198.51.100.123 --seconds $MIXED_S --period 1.707 --offset 0.$((seed % 7))
    actor $host updates --seconds $MIXED_S --period 48 --jitter 0.1 --offset $((seed % 4 * 8 + 3)) --seed $seed
    actor $host dns --to 198.51.100.53 --seconds $MIXED_S --period 2.5 --jitter 0.9 --seed $seed
done
actor desk1 intranet --to 10.20.0.13 --seconds $MIXED_S --period 15 --jitter 0.7
actor desk2 intranet --to 10.20.0.13 --seconds $MIXED_S --period 20 --jitter 0.7 --seed 2
actor desk1 ping --to 198.51.100.80 --seconds 60 --period 40 --offset 10
actor desk1 ping --to 2001:db8:80::80 --seconds 60 --period 40 --offset 20
actor desk2 ssh --to 198.51.100.22 --seconds 110 --period 35 --jitter 0.3 --offset 8
actor desk1 backup --to 10.20.0.13 --seconds 100 --offset 60
actor scanner scan --to 10.20.0.13 --seconds 50 --offset 45
actor bad scan --to 10.20.0.13 --seconds 90 --offset 80
actor desk2 telnet --to 10.20.0.13 --seconds 100 --period 25 --offset 70
finish
stop_watching

# ---- Finishing: stretch, cut, join ---------------------------------------------------------------------------------
echo "stretching and exporting"
out=$work/out
python3 "$tools/stretch.py" "$work/mixed.pcap" "$out/mixed.pcap" --factor $STRETCH --cut 96 \
    --together 10.20.0.14,10.20.0.13 --together 203.0.113.99,10.20.0.13
python3 "$tools/stretch.py" "$work/upload.pcap" "$out/upload.pcap" --cut 96
for topic in web ipv6 dns ssh cleartext scan beacon; do
    python3 "$tools/stretch.py" "$work/$topic.pcap" "$out/$topic.pcap"
done
cp "$work/ntp-ping.nano.pcap" "$out/"
python3 "$tools/join.py" "$out/two-interfaces.pcapng.gz" "6:$work/dns.pcap" "9:$work/ntp-ping.nano.pcap"

# ---- Exports: softflowd reads the mixed capture in packet time, tcpdump records what it sends ----------------------
# From a file softflowd ends flows only when its table is full, so a small table makes it export all along the way.
namespace meter
serve meter python3 "$tools/actors.py" serve-sink --to 127.0.0.1 --port $EXPORT_PORT
export_as() { # NAME VERSION
    enter meter tcpdump -p -i lo -Z root -B 16384 -w "$work/$1.pcap" udp dst port $EXPORT_PORT 2>"$work/$1.pcap.log" &
    captures+=($!)
    watching "$1.pcap"
    (cd "$out" && inside meter timeout 30 softflowd -d -a -r mixed.pcap -n 127.0.0.1:$EXPORT_PORT -v "$2" -m 64 \
        -c none -p "$work/softflowd.pid" -t maxlife=300 -t tcp=300 -t tcp.fin=20 -t tcp.rst=20 -t udp=60 -t icmp=60 \
        -t general=300 -t expint=10) >>"$work/softflowd.log" 2>&1
    stop_watching
    python3 "$tools/exports.py" "$work/$1.pcap" "$out/$1.pcap" --of "$out/mixed.pcap"
}
export_as exports-v5 5
export_as exports-v9 9
export_as exports-ipfix 10

zstd -q -19 --rm "$out/mixed.pcap"
if [ -s "$work/actors.log" ]; then
    echo "what the clients complained about:"
    sort "$work/actors.log" | uniq -c
fi
cp "$here/README.md" "$out/"
python3 "$tools/describe.py" "$out"
rm -f "$target"/*.pcap "$target"/*.pcap.* "$target"/*.pcapng.*
mv "$out"/* "$target/"
chmod 644 "$target"/*.pcap* "$target/truth.csv" "$target/README.md"
echo "done: $target"
