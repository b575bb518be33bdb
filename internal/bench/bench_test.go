package bench

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestStatistics(t *testing.T) {
	if m := median([]float64{3, 1, 2}); m != 2 {
		t.Error(m)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Error(m)
	}
	var list []time.Duration
	for i := range 200 {
		list = append(list, time.Duration(i+1))
	}
	if percentile(list, 50) != 100 || percentile(list, 99) != 198 || percentile(list, 100) != 200 || percentile(nil, 50) != 0 || percentile(list[:1], 1) != 1 {
		t.Error(percentile(list, 50), percentile(list, 99), percentile(list, 100))
	}
	for v, want := range map[float64]float64{61234.5: 61230, 0.31649: 0.316, 0: 0, 999999: 1000000} {
		if got := rounded(v); got != want {
			t.Errorf("rounded(%v) = %v, want %v", v, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %s", n, got)
		}
	}
}

// feature: NEW-18
func TestReportHasTheDocumentedKeys(t *testing.T) {
	full := Report{MatchNS: map[string]float64{"1000": 1}, Latency: &Latency{}, Hanging: &HangingReport{}, Hostile: &HostileReport{}, Announcement: &HostileReport{}, Growth: []GrowthPoint{{}}, Matching: map[string]*MatchReport{"1000": {}}, Load: &LoadReport{}, Nodes: &NodesReport{}, Failover: &FailoverReport{}, Planning: &PlanningReport{}, Digests: &DigestsReport{}, Roles: &RolesReport{}}
	fill(t, &full)
	raw, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range strings.Fields(`ceiling_posts_per_s fanout_deliveries_per_s fanout_ratio single_events_per_s single_ratio ingest_batch_events_per_s ingest_planned_events_per_s latency_ms match_ns
		bytes_per_subscription inbox_rows_per_s idle_rss_bytes backlog_rss_bytes disk_bytes_per_million_events fsync_us start_ms inbox_million_rows_per_s hanging announcement hostile growth growth_ratio matching load nodes failover planning digests roles database`) {
		if _, ok := got[key]; !ok {
			t.Errorf("no %s", key)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Error("undocumented:", got)
	}
	// What was not measured is not there, so that nobody takes 0 for a figure.
	if raw, err = json.Marshal(Report{Database: "sqlite"}); err != nil || string(raw) != `{"database":"sqlite"}` {
		t.Error(string(raw), err)
	}
}

// fill sets every number that is left out when it is 0.
func fill(t *testing.T, r *Report) {
	t.Helper()
	v := reflect.ValueOf(r).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Float64:
			f.SetFloat(1)
		case reflect.Int64:
			f.SetInt(1)
		}
	}
}

func TestEventsAreAsLongAsAPlatforms(t *testing.T) {
	body := appendEvents(nil, "bench.single", 41, 2)
	var events []map[string]any
	if err := json.Unmarshal(body, &events); err != nil || len(events) != 2 {
		t.Fatal(err)
	}
	if n := len(body) / 2; n < 500 || n > 700 {
		t.Errorf("an event has %d bytes", n)
	}
	if seq, ok := sequence(appendEvent(nil, "x", 1234567)); !ok || seq != 1234567 {
		t.Error(seq, ok)
	}
	for _, bad := range []string{"", `{"seq":`, `{"seq":x}`, `{"seq":12`} {
		if _, ok := sequence([]byte(bad)); ok {
			t.Errorf("%s has a number", bad)
		}
	}
}

func TestCeiling(t *testing.T) {
	rate, err := ceiling(context.Background(), 100*time.Millisecond)
	if err != nil || rate <= 0 {
		t.Fatal(rate, err)
	}
}

func TestMatchingIsMeasured(t *testing.T) {
	for _, residual := range []bool{false, true} {
		set, err := matching(500, residual, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for what, v := range map[string]float64{
			"one hit": set.Hits1.Mean, "its median": set.Hits1.P50, "ten hits": set.Hits10.Mean, "their 99th": set.Hits10.P99,
			"bytes": set.Bytes, "an edit": set.EditUS.P50, "a collection": set.CollectMS, "its pause": set.PauseUS,
		} {
			if v <= 0 {
				t.Errorf("%s: %v", what, v)
			}
		}
	}
}

func TestFsync(t *testing.T) {
	took, err := fsync(t.TempDir(), 5)
	if err != nil || took <= 0 {
		t.Fatal(took, err)
	}
}

// peer answers the calls the generator makes and delivers at once; it can be
// told to err.
type peer struct {
	sink    string
	lose    atomic.Bool
	forge   atomic.Bool
	twice   atomic.Bool
	posted  atomic.Int64
	fan     atomic.Int64
	refused atomic.Bool
}

var peerSecret = []byte("0123456789abcdef0123456789abcdef")

func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/v1/endpoints":
		n := p.fan.Add(1)
		_, _ = fmt.Fprintf(w, `{"id":"ep_%d","secret":"whsec_%s"}`, n, base64.StdEncoding.EncodeToString(peerSecret))
	case "/v1/events":
		if p.refused.CompareAndSwap(false, true) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		events := []map[string]any{{}}
		if raw[0] == '[' {
			_ = json.Unmarshal(raw, &events)
		} else {
			_ = json.Unmarshal(raw, &events[0])
		}
		p.posted.Add(int64(len(events)))
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"ids":[]}`)
		fan := 1
		if events[0]["type"] == "bench.fanout" {
			fan = int(p.fan.Load())
		}
		for _, e := range events {
			for endpoint := range fan {
				p.deliver(endpoint, e)
			}
		}
	default:
		_, _ = io.WriteString(w, `{}`)
	}
}

func (p *peer) deliver(endpoint int, e map[string]any) {
	body, _ := json.Marshal(map[string]any{"data": e})
	if p.lose.Swap(false) {
		return
	}
	mac := hmac.New(sha256.New, peerSecret)
	_, _ = io.WriteString(mac, "id.1."+string(body))
	sum := mac.Sum(nil)
	if p.forge.Load() {
		sum[0]++
	}
	times := 1
	if p.twice.Swap(false) {
		times = 2
	}
	for range times {
		r, _ := http.NewRequest(http.MethodPost, fmt.Sprintf("%s/%d", p.sink, endpoint), bytes.NewReader(body))
		r.Header.Set("webhook-id", "id")
		r.Header.Set("webhook-timestamp", "1")
		r.Header.Set("webhook-signature", "v1a,x v1,"+base64.StdEncoding.EncodeToString(sum))
		if resp, err := http.DefaultClient.Do(r); err == nil {
			_ = resp.Body.Close()
		}
	}
}

func newPeer(t *testing.T) (*peer, *rig) {
	t.Helper()
	s, err := startSink()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	p := &peer{sink: s.url}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	r, err := newRig(srv.URL, "key", s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	if err := r.setUp(context.Background(), 3); err != nil {
		t.Fatal(err)
	}
	// The peer answers its first event with 429: the generator must wait and
	// come again.
	if err := r.publish(context.Background(), appendEvent(nil, "bench.other", 0), nil); err != nil || p.posted.Load() != 1 {
		t.Fatal(p.posted.Load(), err)
	}
	return p, r
}

func TestLoadCountsEveryDelivery(t *testing.T) {
	ctx := context.Background()
	p, r := newPeer(t)
	f, err := r.fanout(ctx, 200*time.Millisecond, 40)
	if err != nil || f.rate <= 0 || f.checked == 0 || f.repeated != 0 {
		t.Fatal(f, err)
	}
	p.twice.Store(true)
	s, err := r.single(ctx, 200*time.Millisecond, 128)
	if err != nil || s.rate <= 0 || s.repeated != 1 {
		t.Fatal(s, err)
	}
	list, err := r.latency(ctx, 200, time.Second)
	if err != nil || len(list) != 200 || list[0] <= 0 {
		t.Fatal(len(list), err)
	}
	p.forge.Store(true)
	if _, err = r.single(ctx, 100*time.Millisecond, 128); err == nil || !strings.Contains(err.Error(), "signatures") {
		t.Fatal("a forged signature went unseen:", err)
	}
}

func TestALossIsTold(t *testing.T) {
	p, r := newPeer(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	p.lose.Store(true)
	if _, err := r.fanout(ctx, 100*time.Millisecond, 40); err == nil || !strings.Contains(err.Error(), "1 of ") {
		t.Fatal("a lost delivery went unseen:", err)
	}
}

func TestTableIsReadable(t *testing.T) {
	r := Report{CeilingPosts: 60000, Fanout: 20000, FanoutRatio: 0.333, MatchNS: map[string]float64{"1000": 900, "100000": 1000}, Database: "sqlite", IdleRSS: 30e6, BacklogRSS: 60e6,
		Matching: map[string]*MatchReport{"1000": {Residual: MatchSet{Hits1: MatchTimes{P50: 4000}, Hits10: MatchTimes{P50: 12_300}, EditUS: EditTimes{P50: 9}}}},
		Load:     &LoadReport{Subscriptions: 1_000_000, Seconds: 12.3, PeakBytes: 500e6, Bytes: 310e6},
		notes:    notes{quick: true, endpoints: 100, backlog: 50000}}
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"60,000/s", "20,000/s", "0.33 of the ceiling", "match among 100,000", "4.0 / 12.3 us", "an edit 9 us", "start with 1,000,000", "500.0 MB at most, 310.0 MB stay", "+30.0 MB for 50,000 due deliveries (quick: a full run takes 1,000,000)"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
