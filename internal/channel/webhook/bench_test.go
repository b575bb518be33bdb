package webhook_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// sink answers as fast as it can.
func sink(b *testing.B) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	b.Cleanup(srv.Close)
	return srv.URL
}

// body is about as large as a usual event.
var body = bytes.Repeat([]byte(`{"type":"core.course_updated"} `), 20)

const inFlight = 32 // requests at once per CPU

// BenchmarkWebhookSend is a signed send, the receiver on the same CPUs.
func BenchmarkWebhookSend(b *testing.B) {
	s := open(b, deps(b, "127.0.0.0/8"))
	target := channel.Target{Endpoint: endpoint(sink(b)), Secrets: [][]byte{keyA}}
	var n atomic.Int64
	b.SetParallelism(inFlight)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m := belfry.Message{ID: belfry.DeliveryID("evt_0", int(n.Add(1)), "webhook", "ep_1"), ContentType: "application/json", Body: body}
			if out := s.Send(b.Context(), target, &m); out.Kind != belfry.OutcomeDelivered {
				b.Errorf("%+v", out)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sends/s")
}

// BenchmarkRawPost is the ceiling beside it: net/http alone.
func BenchmarkRawPost(b *testing.B) {
	url := sink(b)
	tr := &http.Transport{MaxIdleConnsPerHost: 512}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	b.SetParallelism(inFlight)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := client.Post(url, "application/json", bytes.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "posts/s")
}
