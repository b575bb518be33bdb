package ui

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// Bounds of the page.
const (
	keptMoments = 50               // events it lists
	maxStreams  = 32               // live streams at a time
	readTime    = 10 * time.Second // for what it reads of the house
)

// DemoOptions are what the demonstration needs: all fields.
type DemoOptions struct {
	House   House
	Catcher Catcher
	Scenes  []Scene
	People  []Person
	Places  map[string]string // titles of objects by id, to put words in the place of ids
	Log     *slog.Logger
	Now     func() time.Time
}

// Demo is the demonstration: one page under /demo/.
type Demo struct {
	o      DemoOptions
	names  map[string]string
	scenes map[string]Scene
	mux    http.Handler

	drained chan struct{} // closed by Drain
	drain   sync.Once

	mu      sync.Mutex
	moments []moment // what was made to happen, oldest first
	count   int      // of events made
	streams int
}

// moment is an event that somebody made happen.
type moment struct {
	EventID string
	Title   string
	At      time.Time
	event   belfry.Event // as it was sent, to send it again
}

//go:embed static
var assets embed.FS

//go:embed demo.html
var demoSource string

// demoPages are the page by the language of its texts.
var demoPages = func() map[string]*template.Template {
	pages := map[string]*template.Template{}
	for _, language := range words.Languages() {
		p := words.For(language)
		pages[language] = template.Must(template.New("demo").Funcs(template.FuncMap{
			"clock":    func(t time.Time) string { return t.Format("15:04:05") },
			"language": p.Language,
			"say":      p.Say,
		}).Parse(demoSource))
	}
	return pages
}()

// reader is the printer for whoever reads the page.
func reader(r *http.Request) *words.Printer {
	return words.Accepting(r.Header.Get("Accept-Language"), "en")
}

// NewDemo makes the demonstration's handler. It serves everything below
// /demo/.
func NewDemo(o DemoOptions) *Demo {
	d := &Demo{o: o, names: map[string]string{}, scenes: map[string]Scene{}, drained: make(chan struct{})}
	for _, p := range o.People {
		d.names[p.ID] = p.Name
	}
	for _, s := range o.Scenes {
		d.scenes[s.Key] = s
	}
	static, err := fs.Sub(assets, "static")
	if err != nil {
		panic(err) // the folder is embedded under this very name
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /demo/{$}", d.page)
	mux.HandleFunc("POST /demo/emit", d.emit)
	mux.HandleFunc("POST /demo/receiver", d.receiver)
	mux.HandleFunc("GET /demo/live", d.live)
	mux.HandleFunc("GET /demo/mail/{id}", d.mail)
	mux.Handle("GET /demo/static/", http.StripPrefix("/demo/static/", http.FileServerFS(static)))
	d.mux = http.NewCrossOriginProtection().Handler(mux)
	return d
}

// Drain ends the live streams, so that a server that stops need not wait for
// them. Idempotent.
func (d *Demo) Drain() { d.drain.Do(func() { close(d.drained) }) }

// ServeHTTP serves the page and what belongs to it.
func (d *Demo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "+
		"frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	d.mux.ServeHTTP(w, r)
}

// pageData is what the page shows.
type pageData struct {
	Scenes   []Scene
	People   []Person
	Moments  []moment // newest first
	Refusing bool
	Story    *story
	Again    bool // the event shown was sent once more and recognised
}

func (d *Demo) page(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readTime)
	defer cancel()
	data := pageData{
		Scenes: d.o.Scenes, People: d.o.People, Moments: d.told(), Refusing: d.o.Catcher.Refusing(),
		Again: r.FormValue("again") != "", Story: &story{},
	}
	id := r.FormValue("event")
	if id == "" && len(data.Moments) > 0 {
		id = data.Moments[0].EventID
	}
	status, p := http.StatusOK, reader(r)
	if id != "" {
		data.Story = d.story(ctx, id, p)
		if data.Story.Missing {
			status = http.StatusNotFound
		}
	}
	d.write(w, status, p, "page", data)
}

// write renders a template whole before a byte leaves, so that a fault is a
// 500 and not half a page.
func (d *Demo) write(w http.ResponseWriter, status int, p *words.Printer, name string, data any) {
	var out bytes.Buffer
	if err := demoPages[p.Language()].ExecuteTemplate(&out, name, data); err != nil {
		d.o.Log.Error("rendering the demonstration", "template", name, "error", err)
		http.Error(w, "The page could not be rendered; the log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Add("Vary", "Accept-Language")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // an error means that the reader has gone
}

// emit makes a scene happen, or sends the newest event once more.
func (d *Demo) emit(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	key := r.PostFormValue("scene")
	m, ok := d.next(key)
	if !ok {
		http.Error(w, fmt.Sprintf("There is no scene %q.", key), http.StatusUnprocessableEntity)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readTime)
	defer cancel()
	receipt, err := d.o.House.Publish(ctx, m.event)
	if err != nil {
		d.o.Log.Error("publishing an event of the demonstration", "scene", key, "error", err)
		http.Error(w, "Belfry did not take the event: "+err.Error(), http.StatusBadGateway)
		return
	}
	to := "/demo/?event=" + url.QueryEscape(receipt.EventID)
	if receipt.Duplicate {
		to += "&again=1"
	} else {
		m.EventID = receipt.EventID
		d.mu.Lock()
		d.moments = append(d.moments, m)
		if over := len(d.moments) - keptMoments; over > 0 {
			d.moments = append([]moment(nil), d.moments[over:]...)
		}
		d.mu.Unlock()
	}
	http.Redirect(w, r, to+"#story", http.StatusSeeOther)
}

// next makes the event of a scene with an id of its own; the scene "again" is
// the newest event as it was.
func (d *Demo) next(key string) (moment, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if key == "again" {
		if n := len(d.moments); n > 0 {
			return d.moments[n-1], true
		}
		return moment{}, false
	}
	s, ok := d.scenes[key]
	if !ok {
		return moment{}, false
	}
	d.count++
	now := d.o.Now()
	e := s.Event
	e.ID = fmt.Sprintf("%s-%d-%d", s.Key, now.Unix(), d.count)
	e.Time = now.UTC().Truncate(time.Second)
	return moment{Title: s.Title, At: now, event: e}, true
}

// told lists what happened, newest first.
func (d *Demo) told() []moment {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]moment, 0, len(d.moments))
	for i := len(d.moments) - 1; i >= 0; i-- {
		out = append(out, d.moments[i])
	}
	return out
}

// receiver makes the webhook receiver fail or work again.
func (d *Demo) receiver(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	d.o.Catcher.Refuse(r.PostFormValue("refuse") == "1")
	to := "/demo/"
	if id := r.PostFormValue("event"); id != "" {
		to += "?event=" + url.QueryEscape(id)
	}
	http.Redirect(w, r, to+"#receiver", http.StatusSeeOther)
}

// mail shows the HTML of a caught mail as a page of its own that may do
// nothing: it is the inside of a sandboxed frame.
func (d *Demo) mail(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	for _, m := range d.o.Catcher.Mails() {
		if err == nil && m.ID == id {
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox; form-action 'none'; frame-ancestors 'self'")
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte(m.HTML)) // an error means that the reader has gone
			return
		}
	}
	http.Error(w, "That mail is not kept any more.", http.StatusNotFound)
}

// live streams the story of one event as it unfolds: server-sent events named
// "story" that hold its HTML as a JSON string.
func (d *Demo) live(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("event")
	if id == "" {
		http.Error(w, "Name the event to follow: /demo/live?event=evt_…", http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	full := d.streams >= maxStreams
	if !full {
		d.streams++
	}
	d.mu.Unlock()
	if full {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "Too many pages follow already; reload instead.", http.StatusServiceUnavailable)
		return
	}
	defer func() {
		d.mu.Lock()
		d.streams--
		d.mu.Unlock()
	}()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	d.follow(r.Context(), id, reader(r), func(line string) error {
		// A stream outlives the server's write time-out for answers.
		if err := out.SetWriteDeadline(d.o.Now().Add(readTime)); err != nil {
			return err
		}
		if _, err := w.Write([]byte(line)); err != nil {
			return err
		}
		return out.Flush()
	})
}

// follow sends the story whenever it reads differently, until ctx ends or send
// fails. While something is still under way it looks again soon, later less
// often; what the catcher gets makes it look at once.
func (d *Demo) follow(ctx context.Context, id string, p *words.Printer, send func(string) error) {
	const soon, late, idle = 100 * time.Millisecond, 2 * time.Second, 15 * time.Second
	timer := time.NewTimer(idle)
	defer timer.Stop()
	sent, wait := "", soon
	for {
		changed := d.o.Catcher.Changed() // before reading, so that no arrival is missed
		s := d.story(ctx, id, p)
		var page bytes.Buffer
		if err := demoPages[p.Language()].ExecuteTemplate(&page, "story", s); err != nil {
			d.o.Log.Error("rendering the demonstration", "template", "story", "error", err)
			return
		}
		line := ": still here\n\n"
		if page.String() != sent {
			sent, wait = page.String(), soon
			quoted, err := json.Marshal(sent)
			if err != nil { // a string always has a JSON form
				return
			}
			line = "event: story\ndata: " + string(quoted) + "\n\n"
		}
		if ctx.Err() != nil || send(line) != nil {
			return
		}
		if s.Pending {
			timer.Reset(wait)
			wait = min(2*wait, late)
		} else {
			timer.Reset(idle)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.drained:
			return
		case <-changed:
		case <-timer.C:
		}
	}
}
