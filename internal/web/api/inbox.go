package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/danielgtaylor/huma/v2"
)

// Bounds of a stream.
const (
	streamPage    = 100              // entries looked at on a wake
	streamOverlap = 10 * time.Minute // entries planned late come before the last seen one
	streamWrite   = 10 * time.Second // a reader that takes nothing for so long is gone
	streamCatchUp = 1000             // most entries sent on resuming
)

// UserID names a user in a path.
type UserID struct {
	ID PathID `path:"id"`
}

type readInbox struct {
	UserID
	Paging
	Unread   bool `query:"unread" doc:"Only unread entries"`
	Archived bool `query:"archived" doc:"The archived entries instead of the others"`
}

// Marking names inbox entries.
type Marking struct {
	IDs []string `json:"ids,omitempty"`
	// All must be true when no ids are given, so that a forgotten list does
	// not empty somebody's inbox.
	All bool `json:"all,omitempty"`
}

// Marked says how many entries changed.
type Marked struct {
	Changed int `json:"changed"`
	Unread  int `json:"unread"`
}

// Counts of an inbox.
type Counts struct {
	Unread int `json:"unread"`
}

func (s *Server) inboxRoutes() {
	route(s, spec{id: "listInbox", method: http.MethodGet, path: "/v1/users/{id}/inbox", tag: "Inbox", may: auth.Read,
		summary: "Read an inbox, newest first"},
		func(ctx context.Context, c *call, in *readInbox) (*reply[InboxPage], error) {
			p, err := s.Inbox.Items(ctx, c.tenant(), string(in.ID), InboxQuery{Before: in.After, Limit: in.Limit, Unread: in.Unread, Archived: in.Archived})
			if err != nil {
				return nil, err
			}
			if p.Items == nil {
				p.Items = []InboxItem{}
			}
			return &reply[InboxPage]{Status: http.StatusOK, Body: p}, nil
		})
	route(s, spec{id: "countInbox", method: http.MethodGet, path: "/v1/users/{id}/inbox/counts", tag: "Inbox", may: auth.Read,
		summary: "Count unread entries"},
		func(ctx context.Context, c *call, in *UserID) (*reply[Counts], error) {
			p, err := s.Inbox.Items(ctx, c.tenant(), string(in.ID), InboxQuery{Limit: 1})
			if err != nil {
				return nil, err
			}
			return &reply[Counts]{Status: http.StatusOK, Body: Counts{Unread: p.Unread}}, nil
		})
	for _, m := range []struct {
		mark    InboxMark
		summary string
	}{
		{MarkRead, "Mark entries as read"}, {MarkUnread, "Mark entries as unread"},
		{MarkArchive, "Archive entries"}, {MarkUnarchive, "Take entries out of the archive"},
	} {
		route(s, spec{id: string(m.mark) + "Inbox", method: http.MethodPost, path: "/v1/users/{id}/inbox/" + string(m.mark), tag: "Inbox", may: auth.Admin,
			summary: m.summary, detail: "Names entries by ids, or the whole inbox by all."},
			func(ctx context.Context, c *call, in *struct {
				UserID
				Keyed
				body[Marking]
			}) (*reply[Marked], error) {
				switch {
				case len(in.Value.IDs) == 0 && !in.Value.All:
					return nil, belfry.Faults([]belfry.Field{{Pointer: "/ids", Message: `name at least one entry, or say "all": true`}})
				case len(in.Value.IDs) > 0 && in.Value.All:
					return nil, belfry.Faults([]belfry.Field{{Pointer: "/all", Message: "goes without ids"}})
				case len(in.Value.IDs) > 1000:
					return nil, belfry.Faults([]belfry.Field{{Pointer: "/ids", Message: "has at most 1000 entries"}})
				}
				n, err := s.Inbox.Mark(ctx, c.tenant(), string(in.ID), in.Value.IDs, m.mark)
				if err != nil {
					return nil, err
				}
				return s.marked(ctx, c, string(in.ID), n)
			})
	}
	s.streamRoute()
}

// marked is the answer to calls that changed n entries.
func (s *Server) marked(ctx context.Context, c *call, user string, n int) (*reply[Marked], error) {
	p, err := s.Inbox.Items(ctx, c.tenant(), user, InboxQuery{Limit: 1})
	if err != nil {
		return nil, err
	}
	return &reply[Marked]{Status: http.StatusOK, Body: Marked{Changed: n, Unread: p.Unread}}, nil
}

type streamInbox struct {
	UserID
	LastEventID string `header:"Last-Event-ID" doc:"Id of the last entry that was received: what came after it is sent first"`
}

func (s *Server) streamRoute() {
	route(s, spec{id: "streamInbox", method: http.MethodGet, path: "/v1/users/{id}/inbox/stream", tag: "Inbox", may: auth.Read,
		summary: "Follow an inbox (server-sent events)",
		detail: "Events: `counts` ({\"unread\":n}) at the beginning and when it changes; `inbox`, an entry as in the list, with its id. A comment is sent now and then to keep the connection. " +
			"After a reconnect with Last-Event-ID entries may come again: tell them by their ids. Entries of events accepted more than ten minutes ago (a late plan) change the counts only: read the list then."},
		func(_ context.Context, c *call, in *streamInbox) (*huma.StreamResponse, error) {
			// Errors are answered as problems only before the stream begins.
			id := string(in.ID)
			// Watched before it is read, so that nothing falls in between.
			woken, cancel := s.Inbox.Watch(c.tenant(), id)
			first, err := s.Inbox.Items(c.r.Context(), c.tenant(), id, InboxQuery{Limit: streamPage})
			if err != nil {
				cancel()
				return nil, err
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				defer cancel()
				hc.SetHeader("Content-Type", "text/event-stream; charset=utf-8")
				hc.SetHeader("X-Accel-Buffering", "no") // proxies that would hold it back
				hc.SetStatus(http.StatusOK)
				w := hc.BodyWriter().(http.ResponseWriter)
				st := &stream{s: s, c: c, w: w, rc: http.NewResponseController(w), principal: id, unread: -1, seen: map[string]time.Time{}}
				if err := st.run(hc.Context(), woken, first, in.LastEventID); err != nil && hc.Context().Err() == nil {
					c.err = err
				}
			}}, nil
		})
	op := operationAt(s.huma.OpenAPI(), http.MethodGet, "/v1/users/{id}/inbox/stream")
	op.Responses["200"] = &huma.Response{Description: "A stream that ends when either side closes it",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}
}

// stream writes one reader's live inbox.
type stream struct {
	s         *Server
	c         *call
	w         http.ResponseWriter
	rc        *http.ResponseController
	principal string
	unread    int
	top       string               // the newest entry there was at the last look
	floor     time.Time            // entries of events accepted before are old news
	seen      map[string]time.Time // entries sent or known, newer than floor
}

func (st *stream) run(ctx context.Context, woken <-chan struct{}, first InboxPage, last string) error {
	if err := st.begin(ctx, first, last); err != nil {
		return err
	}
	beat := time.NewTicker(st.s.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-st.s.done:
			return nil // draining: the reader comes back elsewhere
		case <-woken:
		case <-beat.C:
			// The key may have been revoked meanwhile.
			who, err := st.s.Auth.Authenticate(ctx, st.c.r.Header.Get("Authorization"), st.c.r.Header.Get("Belfry-Tenant"), remoteAddr(st.c.r))
			if err != nil || !who.May(auth.Read) || who.Tenant != st.c.who.Tenant {
				return err
			}
			if err := st.write(": beat\n\n"); err != nil {
				return err
			}
			// Another node may have put something there.
			if same, err := st.same(ctx); err != nil || same {
				if err != nil {
					return err
				}
				continue
			}
		}
		if err := st.look(ctx); err != nil {
			return err
		}
	}
}

// begin sends the counts and, when the reader was here before, what it missed.
func (st *stream) begin(ctx context.Context, first InboxPage, last string) error {
	at, err := belfry.IDTime(last)
	if err != nil {
		// Not here before: everything there is now is known to it already.
		for _, item := range first.Items {
			st.seen[item.ID] = item.Created
		}
		st.floor = st.s.Now().Add(-streamOverlap)
		st.newest(first.Items)
		return st.counts(first.Unread)
	}
	st.floor = at.Add(-streamOverlap)
	st.seen[last] = at
	return st.look(ctx)
}

// same reports, for the price of one entry, whether nothing seems to have
// changed since the last look.
func (st *stream) same(ctx context.Context) (bool, error) {
	page, err := st.s.Inbox.Items(ctx, st.c.tenant(), st.principal, InboxQuery{Limit: 1})
	if err != nil {
		return false, err
	}
	top := ""
	if len(page.Items) > 0 {
		top = page.Items[0].ID
	}
	return page.Unread == st.unread && top == st.top, nil
}

func (st *stream) newest(items []InboxItem) {
	st.top = ""
	if len(items) > 0 {
		st.top = items[0].ID
	}
}

// look sends what is new, oldest first.
func (st *stream) look(ctx context.Context) error {
	var fresh []InboxItem
	unread, before := 0, ""
	for {
		page, err := st.s.Inbox.Items(ctx, st.c.tenant(), st.principal, InboxQuery{Before: before, Limit: streamPage})
		if err != nil {
			return err
		}
		unread = page.Unread
		if before == "" {
			st.newest(page.Items)
		}
		reached := false
		for _, item := range page.Items {
			if made, err := belfry.IDTime(item.ID); err == nil && made.Before(st.floor) {
				reached = true
				break
			}
			if _, known := st.seen[item.ID]; !known {
				fresh = append(fresh, item)
			}
		}
		if reached || page.Next == "" || len(fresh) >= streamCatchUp {
			break
		}
		before = page.Next
	}
	slices.Reverse(fresh)
	for _, item := range fresh {
		text, err := json.Marshal(item)
		if err != nil {
			return err
		}
		if err := st.write(fmt.Sprintf("event: inbox\nid: %s\ndata: %s\n\n", item.ID, text)); err != nil {
			return err
		}
		st.seen[item.ID] = item.Created
	}
	st.forget()
	return st.counts(unread)
}

// forget moves the floor up behind the newest entries, so that memory and the
// work of a look stay bounded on streams that live for days.
func (st *stream) forget() {
	floor := st.s.Now().Add(-streamOverlap)
	if !floor.After(st.floor) {
		return
	}
	st.floor = floor
	for id := range st.seen {
		if made, err := belfry.IDTime(id); err != nil || made.Before(floor) {
			delete(st.seen, id)
		}
	}
}

func (st *stream) counts(unread int) error {
	if unread == st.unread {
		return nil
	}
	st.unread = unread
	return st.write(fmt.Sprintf("event: counts\ndata: {\"unread\":%d}\n\n", unread))
}

func (st *stream) write(text string) error {
	_ = st.rc.SetWriteDeadline(time.Now().Add(streamWrite)) // not every writer has deadlines
	if _, err := st.w.Write([]byte(text)); err != nil {
		return err
	}
	return st.rc.Flush()
}
