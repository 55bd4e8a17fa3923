#!/usr/bin/env bash
# Puts Weir in place, or takes it away.
#   install.sh WEIR DESTDIR PREFIX SYSCONFDIR UNITDIR
#   install.sh --remove DESTDIR PREFIX SYSCONFDIR UNITDIR
set -euo pipefail
cd "$(dirname "$0")/.."

weir=$1 dest=$2 prefix=$3 sysconf=$4 units=$5
bin="$dest$prefix/bin/weir"
files=(
    "$bin"
    "$dest$units/system/weir.service"
    "$dest$units/system/weir.socket"
    "$dest$prefix/lib/sysusers.d/weir.conf"
    "$dest$prefix/lib/sysctl.d/60-weir.conf"
    "$dest$prefix/share/man/man8/weir.8"
    "$dest$prefix/share/bash-completion/completions/weir"
    "$dest$prefix/share/zsh/vendor-completions/_weir"
    "$dest$prefix/share/fish/vendor_completions.d/weir.fish"
)

if [ "$weir" = --remove ]; then
    rm -fv "${files[@]}"
    rm -rfv "$dest$prefix/share/weir" "$dest$prefix/share/doc/weir"
    # The rules beside the configuration, where they are the link that was made here.
    rules="$dest$sysconf/weir/rules/shipped"
    [ "$(readlink "$rules")" != "$prefix/share/weir/rules" ] || rm -fv "$rules"
    exit 0
fi

config="$dest$sysconf/weir/weir.toml"
install -Dm755 "$weir" "$bin"
install -Dm644 systemd/weir.service "$dest$units/system/weir.service"
install -Dm644 systemd/weir.socket "$dest$units/system/weir.socket"
install -Dm644 systemd/sysusers.d/weir.conf "$dest$prefix/lib/sysusers.d/weir.conf"
install -Dm644 systemd/sysctl.d/60-weir.conf "$dest$prefix/lib/sysctl.d/60-weir.conf"
install -Dm644 -t "$dest$prefix/share/weir/drop-ins" systemd/drop-ins/*.conf
install -Dm644 -t "$dest$prefix/share/weir/model" model/weir.onnx model/weir.json
install -Dm644 -t "$dest$prefix/share/doc/weir" README.md docs/*.md
[ ! -d config/examples ] || install -Dm644 -t "$dest$prefix/share/doc/weir/examples" config/examples/*.toml
for page in man/weir.8 completions/bash completions/zsh completions/fish; do
    case $page in
    man/*) to="$dest$prefix/share/man/man8/weir.8" ;;
    completions/bash) to="$dest$prefix/share/bash-completion/completions/weir" ;;
    completions/zsh) to="$dest$prefix/share/zsh/vendor-completions/_weir" ;;
    completions/fish) to="$dest$prefix/share/fish/vendor_completions.d/weir.fish" ;;
    esac
    mkdir -p "$(dirname "$to")"
    "$weir" "${page%%/*}" $([[ $page == man/* ]] || echo "${page##*/}") >"$to"
done
mkdir -p "$dest$prefix/share/weir/rules" "$dest$sysconf/weir/rules"
cp -r config/rules/. "$dest$prefix/share/weir/rules/"
cp -r config/grafana config/prometheus "$dest$prefix/share/weir/"
# The operator's rules stand in /etc/weir/rules; ours are linked in, and may be unlinked.
shipped="$dest$sysconf/weir/rules/shipped"
if [ ! -e "$config" ] && [ ! -L "$shipped" ]; then
    ln -s "$prefix/share/weir/rules" "$shipped"
fi

# A configuration that stands is the operator's: the new default goes beside it.
if [ -e "$config" ]; then
    install -Dm644 config/weir.toml "$config.new"
    echo "install: $config stands; the new default is $config.new"
else
    install -Dm644 config/weir.toml "$config"
fi

if [ -z "$dest" ] && [ -d /run/systemd/system ]; then
    systemd-sysusers weir.conf
    systemctl daemon-reload
    echo "install: start with: systemctl enable --now weir.socket weir.service"
fi
