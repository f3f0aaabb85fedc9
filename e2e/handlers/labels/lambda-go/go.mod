module rouse.dev/handlers/labels

go 1.26

require (
	github.com/aws/aws-lambda-go v1.55.1
	rsc.io/qr v0.2.0
)
