// A handler of Lambda as the tests want one: an echo for events, a few answers for requests.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func handle(_ context.Context, event json.RawMessage) (any, error) {
	var special struct{ Sleep, Large int }
	if json.Unmarshal(event, &special) == nil && special != (struct{ Sleep, Large int }{}) {
		time.Sleep(time.Duration(special.Sleep) * time.Second)
		return strings.Repeat("x", max(special.Large-2, 0)), nil
	}
	var request events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(event, &request); err != nil || request.RawPath == "" {
		return event, nil
	}
	switch request.RawPath {
	case "/fail":
		return nil, errors.New("on purpose")
	case "/print":
		fmt.Println("printed", request.RawQueryString)
	case "/wait":
		time.Sleep(300 * time.Millisecond)
	case "/binary":
		return events.APIGatewayV2HTTPResponse{
			StatusCode:      200,
			Headers:         map[string]string{"content-type": "image/png"},
			Body:            request.Body,
			IsBase64Encoded: request.IsBase64Encoded,
		}, nil
	}
	return events.APIGatewayV2HTTPResponse{
		StatusCode: 201,
		Headers:    map[string]string{"content-type": "text/plain"},
		Cookies:    []string{"a=1; Secure", "b=2"},
		Body:       "hello from go " + strings.Join(request.Cookies, ","),
	}, nil
}

func main() {
	lambda.Start(handle)
}
