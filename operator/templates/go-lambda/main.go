// A handler of AWS Lambda. Requests come as events of an HTTP API (payload 2.0), those of Triggers with
// `format: Lambda` as what AWS sends.
package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func handle(_ context.Context, event json.RawMessage) (any, error) {
	var request events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(event, &request); err != nil || request.RawPath == "" {
		fmt.Println("took an event:", string(event))
		return event, nil
	}
	return events.APIGatewayV2HTTPResponse{
		StatusCode: 200,
		Headers:    map[string]string{"content-type": "text/plain; charset=utf-8"},
		Body:       "Hello from Go\n",
	}, nil
}

func main() {
	lambda.Start(handle)
}
