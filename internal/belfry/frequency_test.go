package belfry_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
)

// A frequency is a word, or an object that says more.
//
// feature: S3-4, CPS-23
func TestFrequencyForms(t *testing.T) {
	for _, tc := range []struct {
		in, out string
		want    belfry.Frequency
	}{
		{`"daily"`, `"daily"`, belfry.Frequency{Every: "daily"}},
		{`{"every":"never"}`, `"never"`, belfry.Frequency{Every: "never"}},
		{`{"every":"weekly","clock":"calendar","at":"08:00","weekday":"monday","content":"event"}`,
			`{"every":"weekly","clock":"calendar","at":"08:00","weekday":"monday","content":"event"}`,
			belfry.Frequency{Every: "weekly", Clock: "calendar", At: "08:00", Weekday: "monday", Content: "event"}},
		{`{"every":"monthly","day":31,"by":"object","leading":true}`, `{"every":"monthly","day":31,"by":"object","leading":true}`,
			belfry.Frequency{Every: "monthly", Day: 31, By: "object", Leading: true}},
	} {
		var got belfry.Frequency
		if err := json.Unmarshal([]byte(tc.in), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", tc.in, diff)
		}
		if out, err := json.Marshal(got); err != nil || string(out) != tc.out {
			t.Errorf("%s written as %s (%v), want %s", tc.in, out, err, tc.out)
		}
		if faults := got.Faults(); len(faults) > 0 {
			t.Errorf("%s: %v", tc.in, faults)
		}
	}
}

func TestFrequencyFaults(t *testing.T) {
	for _, tc := range []struct {
		in            belfry.Frequency
		pointer, says string
	}{
		{belfry.Frequency{}, "/every", "it is one of immediate"},
		{belfry.Frequency{Every: "weakly"}, "/every", `did you mean "weekly"?`},
		{belfry.Frequency{Every: "immediate", At: "08:00"}, "", "stands alone"},
		{belfry.Frequency{Every: "daily", At: "8:00"}, "/at", "from 00:00 to 23:59"},
		{belfry.Frequency{Every: "daily", At: "24:00"}, "/at", "from 00:00 to 23:59"},
		{belfry.Frequency{Every: "daily", At: "+1:00"}, "/at", "from 00:00 to 23:59"},
		{belfry.Frequency{Every: "daily", Clock: "elapsed", At: "08:00"}, "/at", "calendar clock"},
		{belfry.Frequency{Every: "daily", Weekday: "monday"}, "/weekday", "weekly"},
		{belfry.Frequency{Every: "weekly", Weekday: "mondy"}, "/weekday", `did you mean "monday"?`},
		{belfry.Frequency{Every: "weekly", Clock: "elapsed", Weekday: "monday"}, "/weekday", "calendar"},
		{belfry.Frequency{Every: "monthly", Day: 32}, "/day", "1 to 31"},
		{belfry.Frequency{Every: "weekly", Day: 3}, "/day", "monthly"},
		{belfry.Frequency{Every: "daily", Clock: "moon"}, "/clock", "calendar, elapsed"},
		{belfry.Frequency{Every: "daily", Content: "as"}, "/content", "event, send"},
		{belfry.Frequency{Every: "daily", By: "moon"}, "/by", "person, subscription, object"},
	} {
		faults := tc.in.Faults()
		if len(faults) != 1 || faults[0].Pointer != tc.pointer || !strings.Contains(faults[0].Message, tc.says) {
			t.Errorf("%+v: %v, want %q at %q", tc.in, faults, tc.says, tc.pointer)
		}
	}
}
