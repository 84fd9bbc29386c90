# The front: answers all clients, and tells at the end what it saw.
. /guest/common.sh

count() {
  grep -c "$@" /run/access.log
}

take_orders
until_ok "$WEB1 serves" wget -q -O /dev/null "http://$WEB1/page"
until_ok "$WEB2 serves" wget -q -O /dev/null "http://$WEB2/page"
start_nginx front.conf
until_ok "the client says bye" grep -q bye $orders

echo "front answered $(wc -l </run/access.log) requests, $(count "^10.78.0.254 ") of them from the host"
echo "front had $(count ", ") of them answered by the second backend that it asked"
# 499: the client hung up. wrk does, on what is under way when a round is over; it counts what is late itself.
echo "front saw $(count " 499 ") requests whose client hung up"
failed=$(count -v " 200 \| 499 ")
[ "$failed" = 0 ] || fail "$failed requests failed: $(grep -v -m 3 " 200 \| 499 " /run/access.log)"
[ "$(count ", ")" -gt 0 ] || fail "no backend failed: what was killed?"
echo "OK nginx front"
