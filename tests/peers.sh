#!/bin/sh
# The tests talk to real peers that only a distribution has (dcmtk), and make certificates (openssl). Take what is there,
# install it as root, else say so.
command -v storescu >/dev/null && command -v openssl >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends dcmtk openssl >/dev/null && exit 0
fi
echo "dcmtk (storescu, echoscu) or openssl is not installed: the tests that need it will not run" >&2
[ "${CI:-}" != true ]
