//go:build linux

package faults_test

import (
	"context"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-smtp"
)

// postOffice is a real mail server that keeps account of what it took.
type postOffice struct {
	url   string
	takes time.Duration // how long it is about a letter

	mu   sync.Mutex
	got  []letter
	torn int           // that a kill cut off
	next chan struct{} // closed when the next one comes
}

// comes waits until a letter comes, or so long.
func (o *postOffice) comes(within time.Duration) {
	o.mu.Lock()
	if o.next == nil {
		o.next = make(chan struct{})
	}
	next := o.next
	o.mu.Unlock()
	select {
	case <-next:
	case <-time.After(within):
	}
}

// refusedFor begins the addresses to which every message is refused for good.
const refusedFor = "refused-"

// letter is one that was answered 250, or was about to be.
type letter struct {
	id, to, text string
	arrival
}

// events of the letter: the ids in its words.
func (l letter) events() []string {
	var ids []string
	for _, m := range token.FindAllStringSubmatch(l.text, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

// token is how the template of these tests writes an event's id.
var token = regexp.MustCompile(`\bid(\w+)di\b`)

const tokenTemplate = "id{{event.id}}di"

func newPostOffice(t *testing.T, takes time.Duration) *postOffice {
	t.Helper()
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &postOffice{url: "smtp://" + at.Addr().String(), takes: takes}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &clerk{office: o}, nil }))
	s.Domain, s.ErrorLog = "post.localhost", log.New(io.Discard, "", 0) // conversations are cut off by kills
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(at)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-ended
	})
	return o
}

// clerk is one conversation.
type clerk struct {
	office *postOffice
	to     string
}

func (c *clerk) Reset()        { c.to = "" }
func (c *clerk) Logout() error { return nil }

func (c *clerk) Mail(string, *smtp.MailOptions) error { return nil }

func (c *clerk) Rcpt(to string, _ *smtp.RcptOptions) error {
	c.to = to
	return nil
}

func (c *clerk) Data(r io.Reader) error {
	o := c.office
	l := letter{to: c.to, arrival: arrival{at: time.Now(), status: http.StatusOK}}
	mr, err := mail.CreateReader(r)
	if err == nil {
		l.id = strings.Trim(mr.Header.Get("Message-Id"), "<> ")
		l.text, err = plain(mr)
	}
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.torn++
		return err
	}
	o.mu.Lock()
	if o.next != nil {
		close(o.next)
		o.next = nil
	}
	o.mu.Unlock()
	<-time.After(o.takes)
	if strings.HasPrefix(c.to, refusedFor) {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "not this one, now or ever"}
	}
	l.answered = time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, l)
	return nil
}

// plain reads a message to its end and gives its text part.
func plain(mr *mail.Reader) (text string, err error) {
	for {
		p, err := mr.NextPart()
		if err == io.EOF {
			return text, nil
		}
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(p.Body)
		if err != nil {
			return "", err
		}
		if h, ok := p.Header.(*mail.InlineHeader); ok {
			if kind, _, _ := h.ContentType(); kind == "text/plain" {
				text += string(body)
			}
		}
	}
}

// to are the letters to an address.
func (o *postOffice) to(address string) []letter {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []letter
	for i := range o.got {
		if o.got[i].to == address {
			list = append(list, o.got[i])
		}
	}
	return list
}

// once holds when each event is in the letters to an address under exactly one
// Message-ID, and what came twice is the same and was in flight at a death. It
// gives how many messages and repeats there were.
func (o *postOffice) once(wrong *faultList, address string, events []string, deaths []death) (messages, repeats int) {
	in := map[string][]string{} // the Message-IDs by event
	first := map[string]letter{}
	last := map[string]letter{}
	for _, l := range o.to(address) {
		ids := l.events()
		if slices.Sort(ids); len(slices.Compact(slices.Clone(ids))) != len(ids) {
			wrong.add("%s speaks to %s of one event twice: %v", l.id, address, ids)
		}
		if before, again := last[l.id]; again {
			repeats++
			of := first[l.id].events()
			if slices.Sort(of); !slices.Equal(of, ids) {
				wrong.add("%s came to %s with %v and then with %v", l.id, address, of, ids)
			}
			if excuse(deaths, repeat{l.id, before.arrival, l.arrival}) < 0 {
				wrong.add("%s came to %s at %v and at %v, and nobody had died between", l.id, address, before.answered, l.at)
			}
			last[l.id] = l
			continue
		}
		messages++
		first[l.id], last[l.id] = l, l
		for _, id := range ids {
			in[id] = append(in[id], l.id)
		}
	}
	for _, id := range events {
		if len(in[id]) != 1 {
			wrong.add("event %s is in %d messages to %s, want one: %v", id, len(in[id]), address, in[id])
		}
		delete(in, id)
	}
	for id, of := range in {
		wrong.add("event %s is in %v to %s, and was not for them", id, of, address)
	}
	return messages, repeats
}

// stream is a producer that sends one event after the other, each when the one
// before was answered, so that their order is known.
type stream struct {
	typ    string
	object func(n int) string
	pace   time.Duration
	more   func(n int) map[string]any // over what each event says anyhow; nil = nothing

	mu   sync.Mutex
	sent []told
}

// told is an event of a stream: its ids, and between when it was accepted.
type told struct {
	id, evt, object string
	asked, answered time.Time
}

// run sends until ctx ends; the event under way is answered first.
func (s *stream) run(ctx context.Context, l *load, name string) {
	c := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	defer c.CloseIdleConnections()
	tick := time.NewTicker(s.pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		one := told{id: name + "x" + strings.Repeat("0", 6-len(itoa(n))) + itoa(n), object: s.object(n), asked: time.Now()}
		body := map[string]any{
			"id": one.id, "source": "/stream", "type": s.typ, "object": one.object,
			"time": one.asked.Add(-500 * time.Millisecond).UTC().Format(time.RFC3339Nano), // the past for every clock
		}
		if s.more != nil {
			maps.Copy(body, s.more(n))
		}
		for one.evt == "" {
			one.evt = l.insist(c, body)
			if one.evt == "" && l.t.Failed() && ctx.Err() != nil {
				return // nobody will answer
			}
			if one.evt == "" {
				<-tick.C
			}
		}
		one.answered = time.Now()
		s.mu.Lock()
		s.sent = append(s.sent, one)
		s.mu.Unlock()
	}
}

func (s *stream) all() []told {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

func ids(of []told) []string {
	out := make([]string, len(of))
	for i := range of {
		out[i] = of[i].id
	}
	return out
}
