# One of three etcd members. Whoever leads after the first round of writes kills its own etcd, while
# the two others write, and starts it again when they are done. At the end all read the same.
WRITES=5
. /guest/common.sh

# claim: the leader makes itself the victim, once; works where one is known
claim() {
  victim=$(get victim) && return 0
  look && [ "$leader" = "$id" ] && put_unless_there victim "$name $id $term"
  return 1
}
has_new_leader() {
  has_leader && [ "$leader" != "$2" ] && [ "$term" -gt "$3" ]
}

# all_say_goodbye: this member has heard it, or another has, and has gone
all_say_goodbye() {
  there_are 3 bye/ $host serializable || some_peer_is_gone
}

# ramfs has no fallocate: etcd's logs take the room that they use, not 64 MiB each
mkdir $data
mount -t ramfs data $data
start_etcd new
until_ok_within "the cluster has a leader" has_leader
printf "$name is member %x, leader is %x, term %d\n" $id $leader $term

write first
until_ok_within "all have written" there_are $((3 * WRITES)) write/first/
until_ok_within "one is the victim" claim
if [ "${victim% * *}" = $name ]; then
  look
  [ "$leader" = "$id" ] || fail "the leadership has moved before the kill"
  kill -9 $etcd
  wait $etcd
  echo "$name, the leader, was killed: status $?"
  until_ok_within "the others have written without it" some_peer_has $((2 * WRITES)) write/second/
  start_etcd existing
  until_ok_within "the cluster has a leader again" has_leader
  printf "$name is back, leader is %x, term %d\n" $leader $term
  write third
else
  write second
  until_ok_within "another leader" has_new_leader $victim
  printf "$name sees leader %x, term %d, after ${victim% * *}\n" $leader $term
fi

until_ok_within "all is written" there_are $((6 * WRITES)) write/
until_ok_within "a linearizable read" read_all write/ /run/read
digest=$(md5sum </run/read | cut -c 1-32)
echo "$name reads $(wc -l </run/read) keys, md5 $digest"
until_ok_within "the digest is written" put digest/$name $digest
until_ok_within "all have read" there_are 3 digest/
for other in n1 n2 n3; do
  [ "$(get digest/$other)" = $digest ] || fail "$other has read something else"
done

# Until then the others need this member.
until_ok_within "goodbye is written" put bye/$name 1
until_ok_within "all say goodbye" all_say_goodbye
sleep 1
echo "OK etcd $name"
