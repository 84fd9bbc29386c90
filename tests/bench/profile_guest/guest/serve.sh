# Serves a file and waits, without polling, until the other one says that it has all it wanted.
mkdir /run/www
dd if=/dev/urandom of=/run/www/blob bs=1k count=1024 2>/dev/null
md5sum </run/www/blob >/run/www/sum
httpd -h /run/www
echo "PHASE idle"
nc -l -p 9000 >/dev/null
echo "PHASE end"
echo "OK serve"
