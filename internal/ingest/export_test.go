package ingest

// For tests of what the package keeps to itself.
var (
	HeaderValue = headerValue
	Body        = body
)
