# A backend. The client has it killed in the middle of its requests, and started again later.
. /guest/common.sh

# served: how many requests so far
served() {
  wc -l </run/access.log
}

served_more_than() {
  [ "$(served)" -gt "$1" ]
}

# kill_nginx: without a chance to finish anything
kill_nginx() {
  kill -9 $(pidof nginx)
  rm /run/nginx.pid
  echo "$address killed its nginx after $(served) requests"
}

make_pages /run/site
start_nginx web.conf
take_orders
until_ok "an order" test -s $orders
if grep -q kill $orders; then
  before=$(served)
  until_ok "requests after the order" served_more_than $((before + 5))
  kill_nginx
  until_ok "the order to start again" grep -q start $orders
  before=$(served)
  start_nginx web.conf
  echo "$address serves again"
fi
until_ok "the client says bye" grep -q bye $orders
[ -z "$before" ] || [ "$(served)" -gt "$before" ] || fail "nobody came back"
echo "$address served $(served) requests"
echo "OK nginx web"
