# What a member needs: to start etcd, to ask it, to wait. Every wait ends: a guest that gives up says
# so and powers off. What is asked goes through etcd's JSON gateway, as etcdctl takes long to start.
. /usr/lib/guest.sh
PEERS="n1=http://10.78.0.1:2380,n2=http://10.78.0.2:2380,n3=http://10.78.0.3:2380"
HOSTS="10.78.0.1 10.78.0.2 10.78.0.3"
HEARTBEAT_MS=600
ELECTION_MS=3000 # of guest time, which lags behind where the host has no core free
PATIENCE_S=180
PAUSE_S=2
WRITE_EVERY_S=0.5
ANSWER_S=5
GONE_S=5

host=${address%/*}
name=n${host##*.}
data=/run/data
log=/run/etcd.log

fail() {
  echo "FAIL etcd $name: $*"
  tail -n 5 $log
  exit 1
}

# start_etcd new|existing: etcd in the background, as $etcd; what raft decides goes to the console
# Go collects its garbage seldom, as there is memory enough.
start_etcd() {
  [ -p /run/log ] || mkfifo /run/log
  show_raft </run/log &
  GOGC=400 etcd --name $name --data-dir $data/$name --logger capnslog \
    --heartbeat-interval $HEARTBEAT_MS --election-timeout $ELECTION_MS \
    --listen-peer-urls http://$host:2380 --initial-advertise-peer-urls http://$host:2380 \
    --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://$host:2379 \
    --initial-cluster $PEERS --initial-cluster-state $1 >/run/log 2>&1 &
  etcd=$!
}
show_raft() {
  while read -r line; do
    echo "$line" >>$log
    case $line in
      raft*" became "* | raft*" lost leader "* | raft*" elected leader "*)
        echo "$name raft: ${line#* INFO: }"
        ;;
    esac
  done
}

# ask HOST PATH JSON: one request to the gateway of a member
ask() {
  timeout $ANSWER_S wget -q -O - --post-data "$3" "http://$1:2379/v3/$2" 2>/dev/null
}
base64_of() {
  printf %s "$1" | base64 -w 0
}

# field NAME JSON: sets $value to that field, or to nothing. No process for it, as the waits ask often.
field() {
  value=${2#*\"$1\":}
  [ "$value" != "$2" ] || value=
  value=${value#\"}
  value=${value%%[\",\}]*}
}

# look: asks the own member what it knows: $id, $leader (0 for none), $term
look() {
  status=$(ask $host maintenance/status '{}') || return 1
  field member_id "$status"
  id=$value
  field raftTerm "$status"
  term=$value
  field leader "$status"
  leader=${value:-0}
}
has_leader() {
  look && [ "$leader" != 0 ]
}

# put KEY VALUE: through the own member
put() {
  put_encoded "$1" "$(base64_of "$2")"
}
put_encoded() {
  ask $host kv/put "{\"key\":\"$(base64_of "$1")\",\"value\":\"$2\"}" >/dev/null
}

# get KEY: prints its value, as the own member has it after it has asked the leader
get() {
  answer=$(ask $host kv/range "{\"key\":\"$(base64_of "$1")\"}") || return 1
  field value "$answer"
  [ -n "$value" ] && echo "$value" | base64 -d
}

# put_unless_there KEY VALUE: of several who try, one succeeds
put_unless_there() {
  key=$(base64_of "$1")
  ask $host kv/txn "{\"compare\":[{\"key\":\"$key\",\"target\":\"CREATE\",\"create_revision\":\"0\"}],
    \"success\":[{\"request_put\":{\"key\":\"$key\",\"value\":\"$(base64_of "$2")\"}}]}" >/dev/null
}

# keys_under PREFIX: sets $range to what asks for them; kept, as a wait asks for the same again and again
keys_under() {
  [ "$ranged" != "$1" ] || return 0
  ranged=$1
  range="\"key\":\"$(base64_of "$1")\",\"range_end\":\"$(base64_of "${1%/}0")\""
}

# there_are COUNT PREFIX [HOST [serializable]]: whether a member has so many keys
there_are() {
  keys_under "$2"
  counted=$(ask ${3:-$host} kv/range "{$range,\"count_only\":true${4:+,\"serializable\":true}}") || return 1
  field count "$counted"
  [ "$value" = "$1" ]
}
# some_peer_has COUNT PREFIX: asks the others
some_peer_has() {
  for peer in $HOSTS; do
    [ $peer = $host ] || { there_are $1 $2 $peer && return 0; }
  done
  return 1
}

# some_peer_is_gone: whether the VM of another member has powered off
some_peer_is_gone() {
  for peer in $HOSTS; do
    ping -q -c 1 -W $GONE_S $peer >/dev/null || return 0
  done
  return 1
}

# read_all PREFIX FILE: all keys under it, as the cluster is asked for them, not only the own member
read_all() {
  keys_under "$1"
  ask $host kv/range "{$range}" |
    sed 's/.*"kvs"://' | tr '{' '\n' | grep '"key"' >$2
}

# write ROUND: $WRITES keys at their pace, each tried until the cluster has taken it
write() {
  i=0
  mine=$(base64_of $name)
  while [ $i -lt $WRITES ]; do
    i=$((i + 1))
    until_ok_within "write $1 $i" put_encoded write/$1/$name/$i $mine
    sleep $WRITE_EVERY_S
  done
  echo "$name wrote $WRITES keys, round $1"
}
