#!/bin/sh
# The tests talk to real peers that only a distribution has (dcmtk), make certificates (openssl) and videos (ffmpeg), and
# write Chinese names into pictures (a font). Take what is there, install it as root, else say so.
font=/usr/share/fonts/truetype/wqy/wqy-microhei.ttc
command -v storescu >/dev/null && command -v openssl >/dev/null && command -v ffmpeg >/dev/null && [ -e "$font" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends dcmtk openssl \
    ffmpeg fonts-wqy-microhei >/dev/null && exit 0
fi
echo "dcmtk (storescu, echoscu), openssl, ffmpeg or $font is not installed: the tests that need it will not run" >&2
[ "${CI:-}" != true ]
