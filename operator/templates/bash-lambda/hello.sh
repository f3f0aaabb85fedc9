# A handler of AWS Lambda, called with the event as its argument; what it prints on standard output is
# the answer, and what on standard error the log.
handler() {
  if [[ $(jq 'has("rawPath")' <<< "$1") == false ]]; then
    echo "took an event: $1" >&2
    echo "$1"
    return
  fi
  echo '{"statusCode": 200, "body": "Hello from Bash\n"}'
}
