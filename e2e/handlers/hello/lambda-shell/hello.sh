handler() {
  echo '{"statusCode": 200, "body": "hello from Bash"}'
}
