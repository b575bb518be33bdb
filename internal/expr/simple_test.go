package expr

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

// compareTest holds what a test says of an event against what CEL says of the
// filter it was read from.
func compareTest(t interface {
	Helper()
	Fatalf(string, ...any)
}, filter string, v *Vars) (Truth, bool) {
	t.Helper()
	test, ok := TestOf(filter)
	if !ok {
		return Unsure, false
	}
	prog, err := Compile(filter)
	if err != nil {
		t.Fatalf("%s: a test is made of what CEL refuses: %v", filter, err)
	}
	got, want := test.Eval(v), prog.Eval(v)
	missed := want.Code == belfry.FilterFault || want.Code == belfry.FilterFalse && want.Detail != ""
	if got == True && want.Code != belfry.FilterTrue || got == False && (want.Code != belfry.FilterFalse || want.Detail != "") || got == Fails && !missed {
		t.Fatalf("%s of %s, record %s: %d, CEL says %+v", filter, v.event.e.Data, v.event.e.Record, got, want)
	}
	return got, true
}

func genTest(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		n := 9
		if depth > 0 {
			n = 13
		}
		lit := func() string { return genLiteral.Draw(t, "literal") }
		path := func() string { return genPath.Draw(t, "path") }
		compare := func() string {
			return rapid.SampledFrom([]string{"==", "!=", "<", "<=", ">", ">="}).Draw(t, "comparison")
		}
		inner := func(label string) string { return genTest(depth-1).Draw(t, label) }
		switch rapid.IntRange(0, n).Draw(t, "form") {
		case 0, 1, 2:
			return path() + " " + compare() + " " + lit()
		case 3:
			return lit() + compare() + path()
		case 4:
			return path() + " in [" + strings.Join(rapid.SliceOfN(genLiteral, 0, 4).Draw(t, "list"), ", ") + "]"
		case 5:
			return path() + rapid.SampledFrom([]string{".startsWith(", ".endsWith (", ".contains("}).Draw(t, "method") + lit() + ")"
		case 6:
			return "has(" + path() + ")"
		case 7:
			return path()
		case 8:
			return rapid.SampledFrom([]string{"object.hidden", "object.hidden != false", "object.type", "event.type > 't.a'", "event.type.endsWith('a')", "event.related", "has(event.data)",
				"object.type in ['course', 'x']", "event.data.l[0] == 1", "(event.data.a)", "!object.hidden == true", "event.time", "event", "record", "'a' in event.data.l"}).Draw(t, "more")
		case 9:
			return "!" + path()
		case 10:
			return "!(" + inner("not") + ")"
		case 11:
			return "(" + inner("nested") + ")"
		case 12:
			return inner("left") + rapid.SampledFrom([]string{" || ", "||"}).Draw(t, "or") + inner("right")
		default:
			return inner("left") + rapid.SampledFrom([]string{" && ", "\n&& "}).Draw(t, "and") + inner("right")
		}
	})
}

// A test says what CEL says of whatever it is made of.
func TestTestsAreTheFilter(t *testing.T) {
	said := map[Truth]int{}
	rapid.Check(t, func(t *rapid.T) {
		filter := genTest(3).Draw(t, "filter")
		for range 4 {
			if got, ok := compareTest(t, filter, genVars.Draw(t, "vars")); ok {
				said[got]++
			}
		}
	})
	for _, truth := range []Truth{False, True, Fails, Unsure} {
		if said[truth] < 10 {
			t.Errorf("%d of what was drawn came to %d", said[truth], truth)
		}
	}
}

// What is common is decided without CEL, and what is not certain is not.
func TestWhatIsDecidedWithoutCEL(t *testing.T) {
	v := NewVars(sampleEvent(), sampleFacts())
	long := *sampleEvent()
	long.Data = json.RawMessage(`{"a":"` + strings.Repeat("x", maxText+1) + `","n":1}`)
	for filter, want := range map[string]bool{
		`event.data.grade > 7.5`: true, `7 <= event.data.grade`: true, `event.data.a != 'x' || !has(event.data.b)`: true, `!event.data.urgent && event.data.kind in ['a', 'b']`: true,
		`(event.data.title.startsWith('Exam') || event.data["the title"].contains('exam')) && !(record.grade < -1)`: true, `object.type.endsWith('rum')`: true,
		`object.hidden`: true, `has(event.record.a)`: true, `event.data.a <= 9007199254740991`: true,

		`event.data.a >= 9007199254740993`: false, `event.data.a == null`: false, `event.data.a == event.data.b`: false, `event.data.a + 1.0 > 2.0`: false, `object.title > 5`: false,
		`!event.data.a == 'x'`: false, `has(event.data)`: false, `has(event.data["a"])`: false, `event.data["startsWith"]('x')`: false, `object.hidden < true`: false, `event.data.a < true`: false,
		`event.data.a == 1 // x`: false, `event.data.a == 1 ? true : false`: false, `event.data.a.matches('x')`: false, `size(event.data.a) > 1`: false, `event.time > now`: false,
		`event.data.a == 'x' == true`: false, `(event.data.a == 'x') == true`: false, `event.data.a == "\n"`: false, "event.data.a == '\xff'": false, ``: false, `event.nothing == 'x'`: false,
		`event.data.a == 1` + strings.Repeat(` && event.data.a == 1`, maxTests): false, strings.Repeat("(", maxTestDepth+1) + "event.data.a" + strings.Repeat(")", maxTestDepth+1): false,
	} {
		if _, ok := compareTest(t, filter, v); ok != want {
			t.Errorf("%s: %v", filter, ok)
		}
	}
	if got, _ := compareTest(t, `event.data.n == 1 || event.data.a == 'x'`, NewVars(&long, Facts{})); got != Unsure {
		t.Errorf("a long text is compared: %d", got)
	}
}

// What has asks about may be missing at its end only, as with CEL: before that it
// is an error, and no negation of it is true.
func TestHasOfWhatIsNotThere(t *testing.T) {
	e := sampleEvent()
	e.Data = json.RawMessage(`{"b":1,"m":{"n":{}}}`)
	for filter, want := range map[string]Truth{
		`has(event.data.a)`: False, `!has(event.data.a)`: True, `has(event.data.m.a)`: False, `!has(event.data.m.n.a)`: True, `has(event.data.m.n)`: True,
		`has(event.data.a.b)`: Fails, `!has(event.data.a.b)`: Fails, `!has(event.data.m.a.b)`: Fails, `!has(event.data.a.b) || event.data.b == 1`: True,
	} {
		if got, ok := compareTest(t, filter, NewVars(e, sampleFacts())); !ok || got != want {
			t.Errorf("%s: %d, %v", filter, got, ok)
		}
	}
}

func FuzzTest(f *testing.F) {
	for _, seed := range []string{
		`event.data.a > 7.5`, `!(event.data.a != 'x') && has(record.b)`, `event.data.a in [1, 'x', true] || 'x' == event.data["a b"]`, `!event.data.b || event.data.b.startsWith("x")`,
		`event.data.l.contains('')`, `event.data == 'x'`, `((record))`, `object.type.endsWith('') && !object.hidden`,
		`has(event.data.m.n)`, `!has(record.l.a.b)`,
	} {
		f.Add(seed, `{"a":1,"b":"x","a b":"x","l":[{"a":1}]}`)
	}
	f.Fuzz(func(t *testing.T, filter, data string) {
		e := sampleEvent()
		e.Data = json.RawMessage(data)
		compareTest(t, filter, NewVars(e, sampleFacts()))
		e.Record, e.Data = json.RawMessage(data), nil
		compareTest(t, filter, NewVars(e, Facts{}))
	})
}

// The values looked at are remembered, up to a number, and not beyond the event.
func TestLooksAreRemembered(t *testing.T) {
	v := NewVars(&belfry.Event{Data: json.RawMessage(`{"a":1}`)}, Facts{})
	for range 2 {
		for _, name := range strings.Split("abcdefghijklmnop", "") {
			got, ok := v.Lookup(Path("event\x00data\x00" + name))
			if ok != (name == "a") || ok && got != Number(1) {
				t.Errorf("%s: %v, %v", name, got, ok)
			}
		}
	}
	v.Set(&belfry.Event{Data: json.RawMessage(`{"b":"x"}`)}, Facts{})
	if got, ok := v.Lookup("event\x00data\x00b"); !ok || got != Text("x") {
		t.Errorf("%v, %v", got, ok)
	}
	if got, ok := v.Lookup("event\x00data\x00a"); ok {
		t.Errorf("%v is of another event", got)
	}
}

func BenchmarkTest(b *testing.B) {
	t, ok := TestOf(`event.data.n > 5 && event.data.shortname.startsWith('C')`)
	if !ok {
		b.Fatal("not read")
	}
	v := NewVars(sampleEvent(), sampleFacts())
	b.ReportAllocs()
	for b.Loop() {
		t.Eval(v)
	}
}
