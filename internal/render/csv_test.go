package render_test

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
)

// feature: S3-16, S3-13
func TestRecordsCSV(t *testing.T) {
	at := time.Date(2016, 5, 9, 9, 31, 16, 0, time.UTC)
	event := func(record, data string) *belfry.Event {
		return &belfry.Event{Time: at, Type: "a.b", Object: "o/1", Record: json.RawMessage(record), Data: json.RawMessage(data)}
	}
	for name, c := range map[string]struct {
		events []*belfry.Event
		want   string
	}{
		"none":   {nil, ""},
		"fields": {[]*belfry.Event{event(`{}`, `{}`), event(`false`, ``), event(`"x"`, `[1]`)}, ""},
		"union in order": {[]*belfry.Event{event(`{"b":1,"a":"x, \"y\"\nz"}`, ``), event(``, `{"c":true,"a":null}`), event(`{"b":{"k":[1]},"d":1.50}`, `{"no":1}`)},
			"time,type,object,b,a,c,d\r\n" +
				"2016-05-09T09:31:16Z,a.b,o/1,1,\"x, \"\"y\"\"\r\nz\",,\r\n" +
				"2016-05-09T09:31:16Z,a.b,o/1,,,true,\r\n" +
				"2016-05-09T09:31:16Z,a.b,o/1,\"{\"\"k\"\":[1]}\",,,1.50\r\n"},
		"formulas": {[]*belfry.Event{event(`{"=a":"=1+1","b":"+x","c":"-5","d":-5,"e":"@SUM(A1)","f":" \t=cmd|' /C calc'!A0","g":"a=b","h":"|x","i":"＝1"}`, ``)},
			"time,type,object,'=a,b,c,d,e,f,g,h,i\r\n" +
				"2016-05-09T09:31:16Z,a.b,o/1,'=1+1,'+x,-5,-5,'@SUM(A1),' \t=cmd|' /C calc'!A0,a=b,'|x,'＝1\r\n"},
	} {
		if got := string(render.RecordsCSV(c.events)); got != c.want {
			t.Errorf("%s:\n%q\nwant\n%q", name, got, c.want)
		}
	}
}

// No cell that is not a number begins as a formula, and what is written can be
// read.
func TestCellsAreNoFormulas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ \t\r\n]*[=+\-@|%].{0,8}`), hostile())
		raw, err := json.Marshal(map[string]any{text.Draw(t, "name"): text.Draw(t, "value"), "n": rapid.Float64Range(-1e9, 1e9).Draw(t, "n")})
		if err != nil {
			t.Fatal(err)
		}
		table := render.RecordsCSV([]*belfry.Event{{Type: text.Draw(t, "type"), Object: text.Draw(t, "object"), Record: raw}})
		rows, err := csv.NewReader(strings.NewReader(string(table))).ReadAll()
		if err != nil || len(rows) != 2 {
			t.Fatalf("%v in %q", err, table)
		}
		for _, row := range rows {
			for _, cell := range row {
				if s := strings.TrimLeft(cell, " \t\r\n\u00a0"); s != "" && strings.ContainsRune("=+-@|%", rune(s[0])) && json.Unmarshal([]byte(s), new(float64)) != nil {
					t.Fatalf("the cell %q is a formula", cell)
				}
			}
		}
	})
}

func TestTablesAreBounded(t *testing.T) {
	long, err := json.Marshal(map[string]string{"s": strings.Repeat("ü", 20_000)})
	if err != nil {
		t.Fatal(err)
	}
	wide := map[string]int{}
	for i := range 500 {
		wide["c"+strings.Repeat("x", i)] = i
	}
	columns, err := json.Marshal(wide)
	if err != nil {
		t.Fatal(err)
	}
	var events []*belfry.Event
	for range 200 {
		events = append(events, &belfry.Event{Record: long})
	}
	table := render.RecordsCSV(events)
	rows := strings.Split(strings.TrimSpace(string(table)), "\r\n")
	if len(table) > 1<<20 || !strings.HasPrefix(rows[len(rows)-1], "… ") {
		t.Errorf("%d bytes, the last row %.40q", len(table), rows[len(rows)-1])
	}
	table = render.RecordsCSV([]*belfry.Event{{Record: columns}})
	if n := strings.Count(strings.SplitN(string(table), "\r\n", 2)[0], ","); n != 202 {
		t.Errorf("%d columns", n+1)
	}
}
