# Left: talks to the hub and to right.
peer=right
. /guest/leaf.sh
report done
until_ok "the hub says bye" grep -q "hub bye" $heard
echo "OK trio left"
