#!/usr/bin/env bash
# Makes the Debian package of a built binary: DIR/weir_VERSION_ARCHITECTURE.deb.
#   deb.sh WEIR DIR
# The same binary and SOURCE_DATE_EPOCH (by default that of the last commit) give the same octets.
# WEIR_DEB_VERSION overrides the version that Cargo.toml and packaging/deb/changelog agree on,
# WEIR_DEB_COMPRESSION what dpkg-deb compresses by (tests are in a hurry).
set -euo pipefail
cd "$(dirname "$0")/.."

weir=$1 out=$2
for program in dpkg-deb dpkg-shlibdeps strip python3; do
    if ! command -v "$program" >/dev/null; then
        echo "deb: $program is missing; on Debian: apt-get install dpkg-dev binutils python3" >&2
        exit 1
    fi
done

control=packaging/deb
logged=$(sed -nE '1s/^weir \(([^)]+)\).*/\1/p' $control/changelog)
built=$(sed -nE '/^\[package\]/,/^\[/s/^version = "(.*)"/\1/p' Cargo.toml)
if [ "$logged" != "$built" ]; then
    echo "deb: $control/changelog begins with version $logged, Cargo.toml says $built" >&2
    exit 1
fi
version=${WEIR_DEB_VERSION:-$built}
architecture=$(dpkg --print-architecture)
maintainer=$(sed -nE '/^ -- /{s/^ -- (.*>)  .*/\1/p;q}' $control/changelog)
date=$(sed -nE '/^ -- /{s/^ -- .*>  (.*)/\1/p;q}' $control/changelog)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date -d "$date" +%s)}
umask 022

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
root=$stage/root doc=$stage/root/usr/share/doc/weir
scripts/install.sh "$weir" "$root" /usr /etc /usr/lib/systemd

# A conffile is the operator's; the link to our rules is postinst's to make, once.
rm "$root/etc/weir/rules/shipped"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/weir"
gzip -9n "$root"/usr/share/man/man*/*

scripts/sbom.py --sbom "$doc/sbom.cdx.json" --licences "$doc/licences.txt"
gzip -9n "$doc/licences.txt"
install -Dm644 $control/lintian-overrides "$root/usr/share/lintian/overrides/weir"
gzip -9nc $control/changelog >"$doc/changelog.gz"
{
    cat $control/copyright
    printf '\nLicense: Expat\n'
    sed -e '1,4d' -e 's/^$/./' -e 's/^/ /' LICENSE-MIT
} >"$doc/copyright"

# What the binary links, and from which version on; dpkg-shlibdeps wants to see a source package.
mkdir -p "$stage/source/debian" "$root/DEBIAN"
printf 'Source: weir\n\nPackage: weir\nArchitecture: any\n' >"$stage/source/debian/control"
libraries=$(cd "$stage/source" && dpkg-shlibdeps -O -e"$root/usr/bin/weir" | sed -n 's/^shlibs:Depends=//p')

sed -e "s|@VERSION@|$version|" -e "s|@ARCHITECTURE@|$architecture|" -e "s|@MAINTAINER@|$maintainer|" \
    -e "s|@SHLIBS@|$libraries|" -e "s|@SIZE@|$(du -sk --exclude=DEBIAN --apparent-size "$root" | cut -f1)|" \
    $control/control >"$root/DEBIAN/control"
install -m644 $control/conffiles "$root/DEBIAN/"
install -m755 $control/postinst $control/prerm $control/postrm "$root/DEBIAN/"
(cd "$root" && find usr etc -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)

# dpkg-deb takes no time of a file that is later than SOURCE_DATE_EPOCH.
mkdir -p "$out"
dpkg-deb "-Z${WEIR_DEB_COMPRESSION:-xz}" --root-owner-group --build "$root" "$out/weir_${version}_${architecture}.deb"
