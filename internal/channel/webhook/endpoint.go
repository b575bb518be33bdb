package webhook

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// parseURL reads an endpoint's address. Errors do not repeat it: it may carry a
// credential.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("the endpoint's address is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the endpoint's address must begin with https:// or http://")
	case u.Hostname() == "":
		return nil, errors.New("the endpoint's address names no host")
	case u.Fragment != "":
		return nil, errors.New("the endpoint's address must not have a #fragment")
	}
	return u, nil
}

// checkHeader is empty when an endpoint may set the header, else why not.
func checkHeader(name, value string) string {
	if !httpguts.ValidHeaderFieldName(name) {
		return "is not the name of a header"
	}
	if !httpguts.ValidHeaderFieldValue(value) {
		return "has a value that no header can have"
	}
	key := http.CanonicalHeaderKey(name)
	switch key {
	case "Content-Type", "Content-Length", "Content-Encoding", "User-Agent", "Host",
		"Connection", "Keep-Alive", "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Expect":
		return "is set by Belfry and cannot be replaced"
	}
	if strings.HasPrefix(key, "Webhook-") || strings.HasPrefix(key, "Proxy-") {
		return "is set by Belfry and cannot be replaced"
	}
	return ""
}

// timeout is an endpoint's time-out; the default for what is not one.
func timeout(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return DefaultTimeout
	}
	return min(d, MaxTimeout)
}

func basicAuth(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// urlSecrets are the parts of an address that may be credentials, as many
// services put them into the path or the query.
func urlSecrets(u *url.URL) []string {
	var parts []string
	for _, segment := range strings.Split(u.EscapedPath(), "/") {
		if len(segment) >= 16 {
			parts = append(parts, segment)
		}
	}
	for _, values := range u.Query() {
		for _, v := range values {
			if len(v) >= 8 {
				parts = append(parts, v)
			}
		}
	}
	return parts
}
