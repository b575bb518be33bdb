package nodes

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/testtime"
)

// cluster is several hosts that tell each other of changes, unless deaf.
type cluster struct {
	*memory
	*watch
	deaf bool

	mu    sync.Mutex
	hosts []*host
	seeds uint64
}

func newCluster(deaf bool) *cluster {
	return &cluster{memory: newMemory(), watch: newWatch(), deaf: deaf}
}

func (c *cluster) changed() {
	if c.deaf {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hosts {
		h.k.Wake()
	}
}

func (c *cluster) add() *host {
	c.seeds++
	h := c.start(c.watch, c.seeds, c.changed)
	c.mu.Lock()
	c.hosts = append(c.hosts, h)
	c.mu.Unlock()
	return h
}

// grow adds hosts and waits until the work is divided.
func (c *cluster) grow(t *testing.T, n int) {
	t.Helper()
	for range n {
		c.add()
	}
	if _, err := within(3*lease, c.divided); err != nil {
		t.Fatal(err)
	}
}

// remove forgets a host that is no more.
func (c *cluster) remove(h *host) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts = slices.DeleteFunc(c.hosts, func(o *host) bool { return o == h })
}

func (c *cluster) list() []*host {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.hosts)
}

// within waits up to d of virtual time for ok and says how long it took.
func within(d time.Duration, ok func() error) (took time.Duration, err error) {
	for begun := time.Now(); ; {
		if err = ok(); err == nil || time.Since(begun) > d {
			return time.Since(begun), err
		}
		pass(tick)
	}
}

func (c *cluster) divided() error {
	if len(c.list()) == 0 {
		return nil // nobody is there to do anything
	}
	for _, kind := range allKind {
		if err := c.memory.divided(kind, len(c.list())); err != nil {
			return err
		}
	}
	// What the table says is what the nodes work on.
	for _, h := range c.list() {
		for _, kind := range allKind {
			c.memory.mu.Lock()
			n := counts(c.owners[kind])[h.k.ID()]
			c.memory.mu.Unlock()
			if len(h.k.Mine(kind)) != n {
				return fmt.Errorf("%s works on %d shards of %s and has %d", h.k.ID(), len(h.k.Mine(kind)), kind, n)
			}
		}
	}
	return nil
}

func (c *cluster) end(t *testing.T) {
	t.Helper()
	for _, h := range c.list() {
		h.setCut(false)
		h.resume()
		h.stop()
	}
	wrong, sends := c.verdict()
	if len(wrong) > 0 {
		t.Errorf("two at once:\n%s", strings.Join(wrong, "\n"))
	}
	if sends == 0 {
		t.Error("nothing was sent: the test shows nothing")
	}
}

// Nodes come and go in order: the work is divided fairly soon, and at once
// where they tell each other.
// feature: NEW-12
func TestNodesDivideTheWork(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprintf("deaf %v", deaf), func(t *testing.T) {
			testtime.Test(t, func(t *testing.T) {
				c := newCluster(deaf)
				defer c.end(t)
				soon := 2 * lease
				for n := range 5 {
					c.add()
					if took, err := within(soon, c.divided); err != nil {
						t.Fatalf("%d nodes, after %v: %v", n+1, took, err)
					}
					<-c.list()[n].k.Joined()
				}
				if !c.list()[0].k.Shared() {
					t.Error("a node thinks itself alone among five")
				}
				for len(c.list()) > 1 {
					h := c.list()[0]
					h.stop()
					c.remove(h)
					if len(h.k.Mine(belfry.LeasePlan)) != 0 || h.k.MaySend() {
						t.Error("who has left still works")
					}
					if took, err := within(soon, c.divided); err != nil {
						t.Fatalf("%d nodes left, after %v: %v", len(c.list()), took, err)
					}
				}
				if len(c.buried) > 0 {
					t.Errorf("nobody died, and %v were buried", c.buried)
				}
				if _, err := within(soon, func() error {
					if c.list()[0].k.Shared() {
						return fmt.Errorf("the last does not think itself alone")
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A dead node's work is in other hands within two lengths of a lease, also
// when nobody tells.
// feature: NEW-12
func TestTakeOverWithinTwoLeases(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprintf("deaf %v", deaf), func(t *testing.T) {
			testtime.Test(t, func(t *testing.T) {
				c := newCluster(deaf)
				defer c.end(t)
				c.grow(t, 4)
				for range 2 {
					h := c.list()[1]
					h.kill()
					c.remove(h)
					if took, err := within(2*lease, c.divided); err != nil {
						t.Errorf("after %v: %v", took, err)
					} else if took < lease/3 {
						t.Errorf("taken over after %v: its sends may be under way still", took)
					}
				}
			})
		})
	}
}

// A database that was away for all: nobody takes the others for dead when it
// comes back, all keep what they had.
// feature: NEW-12
func TestDatabaseAwayForAllBuriesNobody(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		c := newCluster(false)
		defer c.end(t)
		c.grow(t, 4)
		had := c.state()
		for _, away := range []time.Duration{lease / 2, lease, 2 * lease, 5 * lease} {
			for _, h := range c.list() {
				h.setCut(true)
			}
			pass(away)
			for _, h := range c.list() {
				if away > lease && h.k.MaySend() {
					t.Errorf("%v without the database, and it may still send", away)
				}
			}
			for _, h := range c.list() {
				h.setCut(false)
			}
			pass(2 * lease)
			if len(c.buried) > 0 {
				t.Fatalf("away for %v: %v were buried, and were only cut off", away, c.buried)
			}
			if now := c.state(); now != had {
				t.Errorf("away for %v: shards changed hands\n%s\n%s", away, had, now)
			}
			for _, h := range c.list() {
				if !h.k.MaySend() {
					t.Error("may not send again")
				}
			}
		}
	})
}

// A database that answers nobody for a while, and then all that was asked, as one
// that is halted: nobody takes the others for dead although all that is heard of
// them is old.
// feature: NEW-12
func TestDatabaseFrozenForAllBuriesNobody(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		c := newCluster(false)
		defer c.end(t)
		c.grow(t, 4)
		for i := range 40 {
			thawed := map[*host]chan struct{}{}
			for _, h := range c.list() {
				thawed[h] = make(chan struct{})
				h.setFrozen(thawed[h])
			}
			pass(lease*7/10 + time.Duration(i)*lease/20)
			for n, h := range c.list() {
				h.setFrozen(nil)
				close(thawed[h])
				if n == 0 { // which hears all the answers that came late, before the others
					pass(lease / 4)
				}
			}
			pass(3 * lease)
			if len(c.buried) > 0 {
				t.Fatalf("the %d. time: %v were buried", i, c.buried)
			}
			for _, h := range c.list() {
				if !h.k.MaySend() {
					t.Error("may not send again")
				}
			}
		}
	})
}

// Answers to renewals come in any order: the latest asked for counts.
func TestRenewalsInAnyOrder(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		k := NewKeeper(Options{Lease: lease, Now: time.Now})
		first := time.Now()
		pass(lease / 2)
		k.prolonged("", time.Now())
		k.prolonged("", first)
		pass(lease / 2)
		if !k.MaySend() {
			t.Error("an older renewal counts")
		}
		pass(lease / 6)
		if k.MaySend() {
			t.Error("sends in the last third")
		}
	})
}

// Neither a division of the work that takes long nor connections that are dead
// and do not say so cost a node its lease.
// feature: NEW-12
func TestNothingDelaysRenewals(t *testing.T) {
	for name, set := range map[string]func(h *host){
		"divisions": func(h *host) { h.setTardy(lease * 9 / 10) },
		"renewals":  func(h *host) { h.setUnwell(true) },
		"both":      func(h *host) { h.setTardy(lease * 9 / 10); h.setUnwell(true) },
	} {
		t.Run(name, func(t *testing.T) {
			testtime.Test(t, func(t *testing.T) {
				c := newCluster(false)
				defer c.end(t)
				c.add() // all is well with one: it would bury others
				set(c.add())
				for range 3 { // others come and go, and there is much to divide
					set(c.add())
					if took, err := within(10*lease, c.divided); err != nil {
						t.Fatalf("after %v: %v", took, err)
					}
					pass(3 * lease)
					h := c.list()[2]
					h.setUnwell(false)
					h.stop()
					c.remove(h)
					if took, err := within(10*lease, c.divided); err != nil {
						t.Fatalf("after %v: %v", took, err)
					}
				}
				if len(c.buried) > 0 {
					t.Errorf("%v were buried", c.buried)
				}
			})
		})
	}
}

func (c *cluster) state() string {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	return fmt.Sprint(c.owners[belfry.LeasePlan], c.owners[belfry.LeaseDelivery])
}

// A node that is cut off, or halted, beyond its lease sends nothing after it,
// loses its work to the others and comes back as a new node.
// feature: NEW-12
func TestCutOffNodeStopsAndComesBack(t *testing.T) {
	for name, fault := range map[string]struct{ begin, end func(h *host) }{
		"cut":    {func(h *host) { h.setCut(true) }, func(h *host) { h.setCut(false) }},
		"halted": {(*host).halt, (*host).resume},
	} {
		t.Run(name, func(t *testing.T) {
			testtime.Test(t, func(t *testing.T) {
				c := newCluster(false)
				defer c.end(t)
				c.grow(t, 3)
				h := c.list()[1]
				was := h.k.ID()
				fault.begin(h)
				pass(lease * 2 / 3)
				if h.k.MaySend() {
					t.Error("begins sends in the last third of its lease")
				}
				if _, err := within(2*lease, func() error {
					for _, kind := range allKind {
						c.memory.mu.Lock()
						n := counts(c.owners[kind])
						c.memory.mu.Unlock()
						if n[was]+n[""] > 0 {
							return fmt.Errorf("%v", n)
						}
					}
					return nil
				}); err != nil {
					t.Errorf("not taken over: %v", err)
				}
				fault.end(h)
				if took, err := within(2*lease, c.divided); err != nil {
					t.Errorf("after %v: %v", took, err)
				}
				if h.k.ID() == was {
					t.Error("it did not join anew")
				}
				if len(c.buried) != 1 || c.buried[0] != was {
					t.Errorf("%v were buried, want %s alone", c.buried, was)
				}
			})
		})
	}
}

// A database that takes longer for each answer than a beat waits at first is
// heard out all the same: a node joins it, keeps its place and its work, and
// takes over what the dead had.
// feature: NEW-12
func TestSlowDatabaseIsHeardOut(t *testing.T) {
	for _, slow := range []time.Duration{lease / 5, lease * 35 / 100} {
		t.Run(fmt.Sprint(slow), func(t *testing.T) {
			testtime.Test(t, func(t *testing.T) {
				c := newCluster(false)
				defer c.end(t)
				c.add()
				if _, err := within(3*lease, c.divided); err != nil {
					t.Fatal(err)
				}
				h := c.add()
				h.setSlow(slow)
				if took, err := within(10*lease, c.divided); err != nil {
					t.Fatalf("after %v: %v", took, err)
				}
				id := h.k.ID()
				for range 200 {
					pass(lease / 10)
					if h.k.ID() != id || len(h.k.Mine(belfry.LeasePlan)) != belfry.Shards/2 {
						t.Fatalf("it was %s and is %s, with %d shards", id, h.k.ID(), len(h.k.Mine(belfry.LeasePlan)))
					}
				}
				first := c.list()[0]
				first.kill()
				c.remove(first)
				if took, err := within(10*lease, c.divided); err != nil {
					t.Fatalf("after %v: %v", took, err)
				}
				h.setSlow(0)
			})
		})
	}
}

// Where a new connection takes longer than a lease until it is of use, as on a
// server that is short of processors, it is waited for, and kept: a node whose
// connections are all lost has its part of the work soon, and keeps it.
// feature: NEW-12
func TestNewConnectionsAreWaitedFor(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		c := newCluster(false)
		defer c.end(t)
		c.grow(t, 2)
		h := c.list()[1]
		h.setCold(lease * 4 / 3)
		pass(10 * lease)
		for id, was := h.k.ID(), time.Now(); time.Since(was) < 20*lease; pass(lease / 10) {
			if h.k.ID() != id || !h.k.MaySend() || len(h.k.Mine(belfry.LeasePlan)) != belfry.Shards/2 {
				t.Fatalf("it was %s and is %s, with %d shards, and may send: %v", id, h.k.ID(), len(h.k.Mine(belfry.LeasePlan)), h.k.MaySend())
			}
		}
		h.mu.Lock()
		if h.lost > 1 { // by the look at the table that the end of its life ended
			t.Errorf("it gave up %d connections that were being made", h.lost)
		}
		h.mu.Unlock()
		h.setCold(0)
	})
}

// What is answered when a node has heard that it was taken for dead lets nothing
// be sent, neither in that life nor in the next, and keeps nothing from it there.
func TestAnswersAfterTheEnd(t *testing.T) {
	k := NewKeeper(Options{Lease: lease, Now: time.Now})
	one := "node_1"
	k.id.Store(&one)
	if k.prolonged(one, time.Now()); !k.MaySend() {
		t.Fatal("may not send")
	}
	k.stopSending(one)
	if k.prolonged(one, time.Now()); k.MaySend() {
		t.Error("sends on")
	}
	k.over = false // it has joined anew
	two := "node_2"
	k.id.Store(&two)
	if k.prolonged(one, time.Now()); k.MaySend() {
		t.Error("sends by a lease it had before")
	}
	k.prolonged(two, time.Now())
	if k.stopSending(one); !k.MaySend() {
		t.Error("the end of a life before ends this one")
	}
	if k.prolonged(two, time.Now()); !k.MaySend() {
		t.Error("and is not over")
	}
}

// Whatever happens to the nodes, no shard is worked on by two of them, and
// when it is over the work is divided again.
// feature: NEW-12
func TestAnyFaultsLeaveEachShardToOne(t *testing.T) {
	type step struct {
		what string
		who  int
		then time.Duration
	}
	rapid.Check(t, func(rt *rapid.T) {
		nodes := rapid.IntRange(1, 5).Draw(rt, "nodes")
		deaf := rapid.Bool().Draw(rt, "deaf")
		steps := make([]step, rapid.IntRange(1, 25).Draw(rt, "steps"))
		for i := range steps {
			steps[i] = step{
				what: rapid.SampledFrom([]string{"start", "stop", "kill", "cut", "cut", "flaky", "flaky", "heal", "halt", "halt", "resume", "away", "back"}).Draw(rt, "what"),
				who:  rapid.IntRange(0, 9).Draw(rt, "who"),
				then: time.Duration(rapid.IntRange(1, int(2*lease/time.Millisecond)).Draw(rt, "then")) * time.Millisecond,
			}
		}
		var wrong []string
		testtime.Test(t, func(t *testing.T) {
			c := newCluster(deaf)
			for range nodes {
				c.add()
			}
			pass(lease)
			for _, s := range steps {
				hosts := c.list()
				if s.what == "start" || len(hosts) == 0 {
					if len(hosts) < 6 {
						c.add()
					}
					pass(s.then)
					continue
				}
				h := hosts[s.who%len(hosts)]
				switch s.what {
				case "stop":
					h.setCut(false)
					h.resume()
					h.stop()
					c.remove(h)
				case "kill":
					h.kill()
					c.remove(h)
				case "cut":
					h.setCut(true)
				case "flaky":
					h.setFlaky()
				case "heal":
					h.setCut(false)
				case "halt":
					h.halt()
				case "resume":
					h.resume()
				case "away", "back":
					for _, h := range hosts {
						h.setCut(s.what == "away")
					}
				}
				pass(s.then)
			}
			for _, h := range c.list() {
				h.setCut(false)
				h.resume()
			}
			if took, err := within(6*lease, c.divided); err != nil {
				wrong = append(wrong, fmt.Sprintf("all is well for %v, and %v", took, err))
			}
			for _, h := range c.list() {
				h.stop()
			}
			pass(2 * lease) // what was killed ends
			two, _ := c.verdict()
			wrong = append(wrong, two...)
		})
		if len(wrong) > 0 {
			rt.Fatal(strings.Join(wrong, "\n"))
		}
	})
}

// A node that joins gets its part of what there is to do, and not only shards on
// which nothing is under way: here something always is, and takes most of a lease.
// feature: NEW-12
func TestBusyShardsAreGivenToo(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		c := newCluster(false)
		defer c.end(t)
		c.grow(t, 1)
		first := c.list()[0]
		first.setTakes(lease*9/10, 0)
		pass(2 * lease)
		c.grow(t, 1)
		busy := 0
		for _, kind := range allKind {
			for _, s := range c.list()[1].k.Mine(kind) {
				if s%8 == 0 {
					busy++
				}
			}
		}
		if busy < 16 { // of 64, 32 being its part
			t.Errorf("the node that joined has %d of 64 shards on which something is under way", busy)
		}
		first.setTakes(0, 0)
	})
}

// Where a send hangs its shard stays, and is worked on again before long; others
// are given instead, and those that are free do not wait for it.
// feature: NEW-12
func TestHangingSendsKeepTheirShards(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		c := newCluster(false)
		defer c.end(t)
		c.grow(t, 1)
		first := c.list()[0]
		first.setTakes(tick, 128) // 16 of 32 of each kind
		pass(lease)
		second := c.add()
		if _, err := within(lease/4, func() error {
			for _, kind := range allKind {
				if n := len(second.k.Mine(kind)); n < 100 {
					return fmt.Errorf("%d shards of %s", n, kind)
				}
			}
			return nil
		}); err != nil {
			t.Errorf("what is free waits for what is not: %v", err)
		}
		if _, err := within(4*lease, c.divided); err != nil {
			t.Fatal(err)
		}
		for _, kind := range allKind {
			for s := 0; s < 128; s += 8 {
				if !first.k.Has(kind, s) {
					t.Errorf("%s shard %d, of which a send hangs, is not worked on", kind, s)
				}
			}
		}
	})
}

// Where more shards hang than a node is to have it keeps them all, and they are
// not left again and again.
// feature: NEW-12
func TestManyHangingSendsAreLeftOnce(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		c := newCluster(false)
		defer c.end(t)
		c.grow(t, 1)
		first := c.list()[0]
		first.setTakes(tick, belfry.Shards)
		pass(lease)
		for range 15 {
			c.add()
		}
		kept := func() error {
			for _, kind := range allKind {
				for s := 0; s < belfry.Shards; s += 8 {
					if !first.k.Has(kind, s) {
						return fmt.Errorf("%s shard %d is not worked on", kind, s)
					}
				}
				if n := len(first.k.Mine(kind)); n != belfry.Shards/8 {
					return fmt.Errorf("it has %d shards of %s", n, kind)
				}
			}
			return nil
		}
		if _, err := within(5*lease, kept); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * lease); time.Now().Before(end); pass(tick) {
			if err := kept(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
