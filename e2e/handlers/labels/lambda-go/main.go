// Draws labels, and counts by a cookie how many a customer has asked for.
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"rouse.dev/handlers/labels/shop"
)

type (
	request  = events.APIGatewayV2HTTPRequest
	response = events.APIGatewayV2HTTPResponse
)

func draw(_ context.Context, event request) (response, error) {
	if event.RawPath == "/echo" {
		return answer(event.Headers["content-type"], event.Body, event.IsBase64Encoded), nil
	}
	seen := count(event.Cookies) + 1
	text, ok := event.QueryStringParameters["text"]
	if !ok {
		text = "nothing"
	}
	fmt.Println("label", seen, "for", text)
	picture, err := shop.Label(text)
	if err != nil {
		return response{}, err
	}
	drawn := answer("image/png", base64.StdEncoding.EncodeToString(picture), true)
	drawn.Cookies = []string{fmt.Sprintf("seen=%d; Path=/", seen), "shop=rouse"}
	return drawn, nil
}

// count is how many labels a customer has seen, as a cookie says.
func count(cookies []string) int {
	parsed, err := http.ParseCookie(strings.Join(cookies, "; "))
	if err != nil {
		return 0
	}
	for _, cookie := range parsed {
		if seen, err := strconv.Atoi(cookie.Value); err == nil && cookie.Name == "seen" {
			return seen
		}
	}
	return 0
}

func answer(kind, body string, encoded bool) response {
	headers := map[string]string{"content-type": kind}
	return response{StatusCode: 200, Headers: headers, Body: body, IsBase64Encoded: encoded}
}

func main() {
	lambda.Start(draw)
}
