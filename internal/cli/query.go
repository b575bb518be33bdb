package cli

import (
	"fmt"
	"io"
	"net/url"
	"os"
)

// query are the parameters of a GET; empty ones are left out.
type query map[string]string

// String is "?a=b&c=d", or empty.
func (q query) String() string {
	v := url.Values{}
	for name, value := range q {
		if value != "" {
			v.Set(name, value)
		}
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// Given adds the fields that are not empty to a request.
func Given(fields map[string]string, request map[string]any) map[string]any {
	for name, value := range fields {
		if value != "" {
			request[name] = value
		}
	}
	return request
}

// maxFile bounds what is read of a file; the server's own bound is the same.
const maxFile = 16 << 20

// readFile reads a file, or in for "-". what is in it, and what to do when it is
// too large, are for people.
func readFile(name string, in io.Reader, what, tooLarge string) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read the %s: %w", what, err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the %s: %w", what, err)
	case len(raw) > maxFile:
		return nil, fmt.Errorf("%s is larger than %d MiB: %s", name, maxFile>>20, tooLarge)
	}
	return raw, nil
}
