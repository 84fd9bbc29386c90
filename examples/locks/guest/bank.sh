# The bank: lock server and ledger.
exec lua5.4 /guest/bank.lua
