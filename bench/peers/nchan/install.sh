#!/bin/sh
# Debian's nginx with its nchan module.
set -eu
here=$(cd "$(dirname "$0")" && pwd); into=$1; mkdir -p "$into"
[ -f /usr/lib/nginx/modules/ngx_nchan_module.so ] || RUNLEVEL=1 apt-get install -yq --no-install-recommends nginx libnginx-mod-nchan
cp "$here/nginx.conf" "$into/"
echo "nchan $(dpkg-query -W -f '${Version}' libnginx-mod-nchan | sed 's/^[0-9]*://; s/+.*//'), nginx $(nginx -v 2>&1 | sed 's|.*/||')" >"$into/version"
