package render_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
)

var update = flag.Bool("update", false, "write the golden files anew")

// given is the input half of a golden file.
type given struct {
	Event         belfry.Event
	Object        belfry.Object
	Path          []belfry.Object
	ActorName     string
	About         []string
	Details       []string
	Content       []string
	TypeTitle     string
	Subscription  *belfry.Subscription
	Because       []belfry.Reason
	RecipientName string
	Locale        string
	Zone          string
}

var links = render.Links{
	Why:         "https://belfry.example/why/w1",
	Unsubscribe: "https://belfry.example/u/u1",
	Manage:      "https://belfry.example/me",
}

// Each file of testdata holds a template (none = the built-in one), an item
// and what they make. feature: S3-14, S3-15, NEW-8
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			part := map[string]string{}
			for _, f := range ar.Files {
				part[f.Name] = string(f.Data)
			}
			var in given
			if err := json.Unmarshal([]byte(part["item.json"]), &in); err != nil {
				t.Fatal("item.json:", err)
			}
			subject := part["subject"]
			if n := len(subject); n > 0 {
				subject = subject[:n-1]
			}
			tmpl, err := render.Compile(subject, part["body"])
			if err != nil {
				t.Fatal(err)
			}
			item := render.Item{
				Event: &in.Event, EventID: "evt_1", Object: in.Object, Path: in.Path, ActorName: in.ActorName, About: in.About, Details: in.Details, Content: in.Content,
				TypeTitle: in.TypeTitle, Subscription: in.Subscription, Because: in.Because,
				RecipientName: in.RecipientName, Locale: in.Locale,
			}
			if in.Zone != "" {
				if item.Zone, err = time.LoadLocation(in.Zone); err != nil {
					t.Fatal(err)
				}
			}
			inbox, mail := tmpl.Inbox(item), tmpl.Mail(item, links)
			got := []txtar.File{
				{Name: "want/title", Data: []byte(inbox.Title + "\n")},
				{Name: "want/url", Data: []byte(inbox.URL + "\n")},
				{Name: "want/inbox.html", Data: []byte(inbox.HTML + "\n")},
				{Name: "want/mail.txt", Data: []byte(mail.Text)},
			}
			if _, ok := part["want/mail.html"]; ok {
				got = append(got, txtar.File{Name: "want/mail.html", Data: []byte(mail.HTML)})
			}
			if *update {
				kept := ar.Files[:0]
				for _, f := range ar.Files {
					if filepath.Dir(f.Name) != "want" {
						kept = append(kept, f)
					}
				}
				ar.Files = append(kept, got...)
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, f := range got {
				if diff := cmp.Diff(part[f.Name], string(f.Data)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", f.Name, diff)
				}
			}
		})
	}
}
