package cli

import "net/url"

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
