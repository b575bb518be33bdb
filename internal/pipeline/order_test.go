package pipeline

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/testtime"
)

// Whatever destinations answer, however little memory there is, and whenever
// the process stops and starts: every delivery ends once, and of those that go
// one after the other none is tried before the one before it has ended.
// feature: PEER-3
func TestEveryDeliveryEndsOnceAndInItsOrder(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		db := sqlite(t)
		round := 0
		// Without its Deadline, which may not be asked for here.
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) {
			round++
			tenant := fmt.Sprintf("t%d", round)
			post := newPost(t, db)
			window, queue := rapid.IntRange(2, 64).Draw(rt, "window"), rapid.IntRange(1, 16).Draw(rt, "queue")
			post.tune = func(o *DispatcherOptions) { o.Window, o.Queue = window, queue }
			salt := rapid.Uint32().Draw(rt, "salt")
			bad := rapid.IntRange(0, 50).Draw(rt, "percent that fail")
			dests := []string{"plain", "byobject", "whole"}
			for _, d := range dests {
				post.waits[d] = []time.Duration{time.Second, 3 * time.Second, 10 * time.Second}
			}
			post.answer = func(ctx context.Context, dest string, n int) belfry.Outcome {
				h := fnv.New32a()
				_, _ = fmt.Fprint(h, salt, dest, n, time.Now().UnixMilli())
				x := int(h.Sum32() >> 4)
				if !sleep(ctx, time.Duration(x%37)*time.Millisecond) {
					return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "cut off"}
				}
				switch p := x / 37 % 100; {
				case p < bad/4:
					return belfry.Outcome{Kind: belfry.OutcomeRefused}
				case p < bad/2:
					return belfry.Outcome{Kind: belfry.OutcomeRetry, Throttled: true, After: 2 * time.Second}
				case p < bad:
					return belfry.Outcome{Kind: belfry.OutcomeRetry}
				}
				return delivered()
			}
			post.start()
			lines := map[string][]string{}
			var all []string
			for range rapid.IntRange(1, 8).Draw(rt, "steps") {
				switch rapid.SampledFrom([]string{"plan", "plan", "wait", "restart"}).Draw(rt, "step") {
				case "plan":
					for range rapid.IntRange(1, 12).Draw(rt, "events") {
						object := rapid.Int64Range(2, 4).Draw(rt, "object")
						letters := []letter{{dest: "plain", priority: rapid.SampledFrom([]int{0, belfry.PriorityUrgent, belfry.PriorityDigest}).Draw(rt, "priority")},
							{dest: "byobject", line: object}, {dest: "whole", line: 1}}
						ids := post.plan(tenant, rapid.IntRange(0, 3).Draw(rt, "kept") == 0, letters...)
						lines[fmt.Sprint("byobject", object)] = append(lines[fmt.Sprint("byobject", object)], ids[1])
						lines["whole"] = append(lines["whole"], ids[2])
						all = append(all, ids...)
					}
				case "wait":
					<-time.After(time.Duration(rapid.IntRange(1, 3000).Draw(rt, "ms")) * time.Millisecond)
				case "restart":
					post.stop()
					post.start()
				}
			}
			for range 500 {
				if post.open(tenant) == 0 {
					break
				}
				<-time.After(time.Minute)
			}
			if n := post.open(tenant); n != 0 {
				post.stop()
				rt.Fatalf("%d of %d deliveries never end", n, len(all))
			}
			post.stop()
			if n := len(post.d.held); n != 0 || post.d.bytes != 0 || post.d.queued != [speeds]int{} {
				rt.Fatalf("%d deliveries, %d bytes, %v queued stay in memory", n, post.d.bytes, post.d.queued)
			}
			check(rt, post, tenant, all, lines)
		})
	})
}

// check compares what was sent with what is recorded.
func check(rt *rapid.T, p *post, tenant string, all []string, lines map[string][]string) {
	sent := map[string]int{}
	for _, s := range p.sent {
		sent[s.id]++
	}
	for _, id := range all {
		d, ok, err := p.db.Delivery(context.Background(), tenant, id)
		if err != nil || !ok || d.State != belfry.Delivered && d.State != belfry.Failed {
			rt.Fatalf("delivery %s to %s: %v, %v, %v", id, p.dest[id], d.State, ok, err)
		}
		if want := map[bool]int{true: 1}[d.State == belfry.Delivered]; sent[id] != want {
			rt.Fatalf("delivery %s to %s is %v and arrived %d times", id, p.dest[id], d.State, sent[id])
		}
	}
	first, last := map[string]time.Time{}, map[string]time.Time{}
	for _, u := range p.under {
		if at, ok := first[u.id]; !ok || u.began.Before(at) {
			first[u.id] = u.began
		}
		if u.at.After(last[u.id]) {
			last[u.id] = u.at
		}
	}
	for name, ids := range lines {
		if !slices.IsSortedFunc(ids, strings.Compare) {
			rt.Fatalf("the ids of %s are not in the order of acceptance", name)
		}
		for i := 1; i < len(ids); i++ {
			if first[ids[i]].Before(last[ids[i-1]]) {
				rt.Fatalf("%s: number %d was tried at %v, the one before ended at %v", name, i, first[ids[i]], last[ids[i-1]])
			}
		}
	}
}
