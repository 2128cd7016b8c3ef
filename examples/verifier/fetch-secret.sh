#!/bin/sh
# Runs in a pod: shows the verifier what this pod is, and prints the secret it gives.
#   fetch-secret.sh http://VERIFIER:PORT
set -eu
verifier=$1

nonce=$(curl -sS --fail-with-body -X POST "$verifier/nonce")
curl -sS --fail-with-body --unix-socket /run/rkt/attest.sock "http://pod/quote?nonce=$nonce" |
  curl -sS --fail-with-body --data-binary @- "$verifier/secret?nonce=$nonce"
