package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

var linear = plot{
	name: "linear", title: "Latency <by tenant>", about: "Two lines & a band.",
	x: axis{label: "seconds"}, y: axis{label: "ms"},
	series: []series{
		{name: "north p99", points: []point{{0, 3}, {1, 4.5}, {2, 17}}},
		{name: "north p50", dashed: true, points: []point{{0, 1}, {1, 1.25}, {2, 2}}},
		{name: "south p99", color: 7, dots: true, points: []point{{0, 8}}},
	},
	bands: []band{{from: 0.5, to: 2.5, label: "the big event"}, {from: 1, to: 1, label: "a moment"}},
}

var logarithmic = plot{
	name: "logarithmic", title: "Cost", about: "Flat.",
	x: axis{label: "stored", log: true}, y: axis{label: "us", from: 0},
	series: []series{{name: "fan-out", dots: true, points: []point{{10_000, 40}, {100_000, 41}, {1_000_000, 39.5}, {10_000_000, 44}}}},
}

// feature: NEW-18
func TestPlots(t *testing.T) {
	dir := t.TempDir()
	plots := []plot{linear, logarithmic, {name: "empty", title: "Nothing"}}
	if err := save(filepath.Join(dir, "made"), plots); err != nil {
		t.Fatal(err)
	}
	for _, p := range plots {
		got, err := os.ReadFile(filepath.Join(dir, "made", p.name+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", p.name+".svg")
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from its golden file; look at it and write it anew with -update", p.name)
		}
		for d := xml.NewDecoder(bytes.NewReader(got)); ; {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%s is no XML: %v", p.name, err)
				break
			}
		}
		if bytes.Contains(got, []byte("NaN")) || bytes.Contains(got, []byte("Inf")) {
			t.Errorf("%s has a place that is no number", p.name)
		}
	}
	if err := save("", plots); err != nil {
		t.Error("without a folder nothing is written:", err)
	}
	if err := save(filepath.Join(dir, "made", "linear.svg"), plots); err == nil {
		t.Error("a file was taken for a folder")
	}
}

func TestScales(t *testing.T) {
	for _, c := range []struct {
		name   string
		axis   axis
		values []float64
		ticks  []float64
	}{
		{"from zero", axis{}, []float64{3, 17}, []float64{0, 5, 10, 15, 20}},
		{"fractions", axis{}, []float64{0.1, 0.35}, []float64{0, 0.1, 0.2, 0.3, 0.4}},
		{"one value", axis{}, []float64{0}, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{"decades", axis{log: true}, []float64{20, 3000}, []float64{10, 100, 1000, 10_000}},
		{"whole decades", axis{log: true}, []float64{10, 1000}, []float64{10, 100, 1000}},
		{"one decade", axis{log: true}, []float64{10}, []float64{10, 100}},
		{"zero has no logarithm", axis{log: true}, []float64{0, 50}, []float64{10, 100}},
		{"nothing", axis{log: true}, nil, []float64{1, 10}},
	} {
		s := newScale(c.axis, c.values, 0, 100)
		near := func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }
		if !slices.EqualFunc(s.ticks, c.ticks, near) {
			t.Errorf("%s: ticks %v, want %v", c.name, s.ticks, c.ticks)
		}
		if first, last := s.at(s.ticks[0]), s.at(s.ticks[len(s.ticks)-1]); !near(first, 0) || !near(last, 100) {
			t.Errorf("%s: ends at %v and %v", c.name, first, last)
		}
		if c.axis.log && s.at(0) != 0 {
			t.Errorf("%s: zero is at %v", c.name, s.at(0))
		}
	}
	for v, want := range map[float64]string{0: "0", 12_000: "12,000", 0.25: "0.25", -3: "-3", 1e-3: "0.001"} {
		if got := tickText(v); got != want {
			t.Errorf("tickText(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestProgress(t *testing.T) {
	var b strings.Builder
	p := progress{w: &b}
	p.begin("disk")
	p.step("half")
	p.end()
	if b.String() != "measuring disk ... 0.0 s\n" {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	p = progress{w: &b, terminal: true}
	p.begin("a long name")
	p.step("%d of %d", 1, 2)
	p.step("not so soon again")
	p.end()
	p.begin("b")
	p.end()
	lines := strings.Split(b.String(), "\r")
	if len(lines) != 6 || !strings.Contains(lines[2], "1 of 2") || len(strings.TrimRight(lines[3], "\n")) < len(lines[2]) || strings.Contains(b.String(), "soon") {
		t.Errorf("%q", lines)
	}
}

func TestScenariosAreChosen(t *testing.T) {
	all := Options{Size: Full()}
	quick := Options{Size: Quick()}
	some := Options{Only: []string{"fanout", "disk"}}
	several := Options{Size: Quick(), Nodes: 3, Database: "postgres://host/"}
	for _, c := range []struct {
		name   string
		o      Options
		wanted string
		want   bool
	}{
		{"full", all, "fanout", true}, {"quick", quick, "backlog", true},
		{"full", all, "hanging", true}, {"quick", quick, "hanging", false}, {"full", all, "growth", false}, {"full", all, "nodes", false},
		{"several nodes", several, "nodes", true}, {"several nodes", several, "fanout", true}, {"several nodes", several, "failover", false},
		{"asked for", some, "fanout", true}, {"not asked for", some, "single", false},
	} {
		if got := c.o.wants(c.wanted); got != c.want {
			t.Errorf("%s: wants(%s) = %v", c.name, c.wanted, got)
		}
	}
	if !some.wants("single", "disk") {
		t.Error("one of two is wanted")
	}
	if err := some.Check(); err != nil {
		t.Error(err)
	}
	if err := several.Check(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Only: []string{"fan"}}, `no scenario "fan"; there are match, `},
		{Options{Nodes: 1, Database: "postgres://host/"}, "from 2 to 16"},
		{Options{Nodes: 17, Database: "postgres://host/"}, "from 2 to 16"},
		{Options{Nodes: 2}, "in --database"},
		{Options{Only: []string{"failover"}}, "in --database"},
	} {
		if err := c.o.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}
