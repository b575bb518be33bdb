package bench

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// A careful producer repeats at another node what was not answered, and gives
// up what was refused.
func TestStubbornProducer(t *testing.T) {
	var status, asked atomic.Int64
	status.Store(http.StatusServiceUnavailable)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(int(status.Swap(http.StatusAccepted)))
	}))
	defer srv.Close()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	r, err := newRig("http://"+dead.Addr().String(), "key", nil, srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	event := appendNamed(nil, "bench.fanout", 7)
	var named struct {
		ID   string
		Data struct{ Seq int64 }
	}
	if err := json.Unmarshal(event, &named); err != nil || named.ID != "7" || named.Data.Seq != 7 {
		t.Fatal(err, string(event))
	}
	r.stubborn = true
	if err := r.publish(t.Context(), event, nil); err != nil || asked.Load() != 2 {
		t.Error("it gave up:", err, asked.Load())
	}
	status.Store(http.StatusUnprocessableEntity)
	if err := r.publish(t.Context(), event, nil); err == nil {
		t.Error("it hides a refusal")
	}
	srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.publish(ctx, event, nil); err == nil {
		t.Error("it went on without an end")
	}
	r.stubborn = false
	if err := r.publish(t.Context(), event, nil); err == nil {
		t.Error("others do not insist")
	}
}

func TestAccount(t *testing.T) {
	f := FailoverReport{Accepted: 8000, Deliveries: 160_000, Delivered: 159_999, Duplicates: 3, Lost: 1}
	if got := f.account(); got != "accepted 8,000 events, delivered 159,999 of 160,000, duplicates 3, lost = 1" {
		t.Error(got)
	}
}
