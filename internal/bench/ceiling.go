package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// workers is how many connections post at once, for the ceiling as for the
// load.
const workers = 64

// ceiling is the rate of POSTs of about 600 bytes that net/http alone makes
// over loopback, client and server in this process: what the machine could
// deliver if deciding, storing and signing cost nothing.
func ceiling(ctx context.Context, window time.Duration) (float64, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	})}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	defer func() { _ = server.Close() }()

	client := loadClient()
	defer client.CloseIdleConnections()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	body := appendEvent(nil, "bench.ceiling", 0)
	url := "http://" + ln.Addr().String() + "/"
	var count atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for ctx.Err() == nil {
				if err := post(ctx, client, url, "", body, http.StatusNoContent, nil); err != nil {
					if ctx.Err() == nil {
						select {
						case failed <- err:
						default:
						}
					}
					return
				}
				count.Add(1)
			}
		})
	}
	rate, err := windowed(ctx, &count, window/4, window, failed)
	stop()
	group.Wait()
	return rate, err
}

// windowed is the rate at which count grows in a window that begins after a
// warm-up. A window in which nothing came is made longer, so that a short one
// on a busy machine is no failure; the time it took counts.
func windowed(ctx context.Context, count *atomic.Int64, warm, window time.Duration, failed <-chan error) (float64, error) {
	pause := func(d time.Duration) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case err := <-failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := pause(warm); err != nil {
		return 0, err
	}
	before, start := count.Load(), time.Now()
	for range 20 {
		if err := pause(window); err != nil {
			return 0, err
		}
		if n, took := count.Load()-before, time.Since(start); n > 0 {
			return rate(n, took), nil
		}
	}
	return 0, fmt.Errorf("nothing arrived within %v", time.Since(start).Round(time.Millisecond))
}

// loadClient is the client of all load: plain net/http with connections kept.
func loadClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConns: 4 * workers, MaxIdleConnsPerHost: 4 * workers, IdleConnTimeout: time.Minute,
		DisableCompression: true,
		DialContext:        (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}}
}

// post sends body and checks the status; the answer goes to out when it is not
// nil.
func post(ctx context.Context, client *http.Client, url, key string, body []byte, status int, out *bytes.Buffer) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header["Content-Type"] = jsonType
	if key != "" {
		r.Header["Authorization"] = []string{"Bearer " + key}
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != status {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return &answered{status: resp.StatusCode, retry: resp.Header.Get("Retry-After"), text: string(text)}
	}
	if out != nil {
		out.Reset()
		_, err = out.ReadFrom(resp.Body)
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

var jsonType = []string{"application/json"}
