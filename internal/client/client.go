// Package client speaks a server's JSON API over HTTP, for the commands that
// work on a running server and for the benchmark.
//
// It promises that an answer that is no success becomes an error in the words
// of the server's problem document, with its faults and their places, and that
// a server that cannot be reached is named together with what to do.
//
// It refuses to retry, to follow redirects (they would carry the key
// elsewhere) and to read answers without a bound. It knows no call of the API:
// callers give paths and values.
//
// Test it against any HTTP server.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// Client talks to one server as one key.
type Client struct {
	Server string // base address, like http://127.0.0.1:8420
	Key    string
	Tenant string // for root keys; empty = the key's or the default one
	HTTP   *http.Client
}

// New makes a Client of an address as people write it; the scheme may be left
// out.
func New(server, key, tenant string) (*Client, error) {
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no address of a server: write it like http://127.0.0.1:8420", server)
	}
	return &Client{Server: strings.TrimRight(u.String(), "/"), Key: key, Tenant: tenant, HTTP: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Problem is an answer that is no success (RFC 9457).
type Problem struct {
	Type   string  `json:"type"`
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail"`
	Errors []Fault `json:"errors"`
}

// Fault is one fault at one place.
type Fault struct {
	Pointer   string `json:"pointer"`
	Parameter string `json:"parameter"`
	Message   string `json:"message"`
}

// Error is the problem in words: what it is about, then each fault on a line.
func (p *Problem) Error() string {
	var b strings.Builder
	switch {
	case p.Detail != "":
		b.WriteString(p.Detail)
	case p.Title != "":
		b.WriteString(p.Title)
	default:
		b.WriteString(http.StatusText(p.Status))
	}
	fmt.Fprintf(&b, " (%d)", p.Status)
	for _, f := range p.Errors {
		if !strings.Contains(p.Detail, f.Message) {
			fmt.Fprintf(&b, "\n  %s%s: %s", f.Pointer, f.Parameter, f.Message)
		}
	}
	return b.String()
}

// Call sends in as JSON (nothing when nil; bytes of json.RawMessage as they
// are) and reads the answer into out (not at all when nil).
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	resp, err := c.Send(ctx, method, path, "application/json", body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		return err
	}
	if err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("%s answered %s %s with what is not the JSON expected (is it a Belfry server?): %w", c.Server, method, path, err)
	}
	return nil
}

// Send makes a request and gives the successful answer, whose body the caller
// closes.
func (c *Client) Send(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.Server+path, body)
	if err != nil {
		return nil, err
	}
	if c.Key != "" {
		r.Header.Set("Authorization", "Bearer "+c.Key)
	}
	if c.Tenant != "" {
		r.Header.Set("Belfry-Tenant", c.Tenant)
	}
	if body != nil {
		r.Header.Set("Content-Type", contentType)
	}
	r.Header.Set("Accept", "application/json")
	resp, err := c.HTTP.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, fmt.Errorf("%s cannot be reached (start one with belfry serve, or name another with --server or BELFRY_SERVER): %w", c.Server, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer func() { _ = resp.Body.Close() }()
		return nil, problem(c.Server, resp)
	}
	return resp, nil
}

func problem(server string, resp *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	var p Problem
	if json.Unmarshal(raw, &p) != nil || p.Title == "" && p.Detail == "" {
		return fmt.Errorf("%s answered %s, which is no answer of a Belfry server: is the address right?", server, resp.Status)
	}
	p.Status = resp.StatusCode
	return &p
}
