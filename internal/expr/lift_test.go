package expr

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// naive is the truth: the whole filter, evaluated by CEL.
func naive(t interface{ Fatalf(string, ...any) }, filter string, v *Vars) Verdict {
	p, err := Compile(filter)
	if err != nil {
		t.Fatalf("%s: %v", filter, err)
	}
	return p.Eval(v)
}

// viaLift is the index's way: every equality, then the residual.
func viaLift(t interface{ Fatalf(string, ...any) }, l Lifted, v *Vars) bool {
	for i := range l.Equalities {
		if !l.Equalities[i].Holds(v) {
			return false
		}
	}
	return l.Residual == "" || naive(t, l.Residual, v).True()
}

// shapes is a cache so small that all its ways are walked.
var shapes = NewCache(64)

// compareLifting holds both lifters and the cache of shapes to the naive
// evaluator.
func compareLifting(t interface{ Fatalf(string, ...any) }, filter string, v *Vars) {
	want := naive(t, filter, v)
	if strings.Contains(want.Detail, "too much work") {
		return // a residual alone may stay within the limit
	}
	if got, err := shapes.Eval(filter, v); err != nil || got != want {
		t.Fatalf("%s: by its shape %+v, %v; naive %+v", filter, got, err, want)
	}
	checked, err := liftChecked(filter)
	if err != nil {
		t.Fatalf("%s: compiles but does not lift: %v", filter, err)
	}
	if got := viaLift(t, checked, v); got != want.True() {
		t.Fatalf("%s: lifted %v, naive %+v; %+v", filter, got, want, checked)
	}
	if text, ok := liftText(filter); ok {
		if got := viaLift(t, text, v); got != want.True() {
			t.Fatalf("%s: lifted from text %v, naive %+v; %+v", filter, got, want, text)
		}
		if d := cmp.Diff(checked.Equalities, text.Equalities, cmp.AllowUnexported(Value{})); d != "" {
			t.Fatalf("%s: the text lifter lifts others (-checked +text)\n%s", filter, d)
		}
	}
	// Scalars names exactly what Lookup finds.
	step := func(h uint64, s string) uint64 {
		for _, c := range []byte(s) {
			h = (h ^ uint64(c)) * 1099511628211
		}
		return h*31 + 7
	}
	for _, q := range checked.Equalities {
		var h uint64
		for s := range q.Path.Segments() {
			h = step(h, s)
		}
		var found Value
		for sh, val := range v.Scalars(step) {
			if sh == h {
				found = val
			}
		}
		if val, _ := v.Lookup(q.Path); val != found {
			t.Fatalf("%s: Lookup %v, Scalars %v", q.Path, val, found)
		}
	}
}

var genLiteral = rapid.SampledFrom([]string{
	`'a'`, `"b"`, `''`, `'O\'B'`, `r'a'`, `1`, `-1`, `0`, `-0.0`, `1.0`, `1.5`, `2u`, `0x2`, `1e0`, `true`, `false`, `null`,
	`9007199254740993`, `9007199254740992`, `9223372036854775807`, `18446744073709551615u`, `' && '`, `'a b'`, `'ä'`,
})

var genPath = rapid.SampledFrom([]string{
	`event.data.a`, `event.data.b`, `event.data["a b"]`, `event.data.a.b`, `event.data`, `event.record.a`, `record.a`, `record`,
	`event.data['ä']`, `object.attributes.a`, `actor.attributes["b"]`, `event.variables.a`, `event.extensions.a`, `event.data.a["b"].c`,
	`container.attributes.b`, `event.data.l[0]`,
})

func genConjunct(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		n := 9
		if depth > 0 {
			n = 14
		}
		lit := func() string { return genLiteral.Draw(t, "literal") }
		path := func() string { return genPath.Draw(t, "path") }
		switch rapid.IntRange(0, n).Draw(t, "form") {
		case 0, 1:
			return path() + " == " + lit()
		case 2:
			return lit() + "==" + path()
		case 3:
			return path() + " in [" + strings.Join(rapid.SliceOfN(genLiteral, 0, 4).Draw(t, "list"), ", ") + "]"
		case 4:
			return path() + " != " + lit()
		case 5:
			return path() + " == " + path()
		case 6:
			return "has(event.data.a)"
		case 7:
			return fmt.Sprintf("event.type == '%s'", rapid.SampledFrom([]string{"t.a", "t.b"}).Draw(t, "type"))
		case 8:
			return rapid.SampledFrom([]string{"object.hidden == true", "object.type in ['course', 'forum',]", "object.hidden",
				"event.data.l.exists(x, x == 1)", "event.data.l.all(x, x in [1, 2] && x == 1)", "'a' in event.data.l", "event.data.b > 1", "event.data.a.startsWith('a')",
				"event.data.b >= -1.5", "size(event.data.l) == 2", "event.data.a in event.data.l", "event.data.a in (['a', 'b'])", "null == event.data.a", "(event.data.a) == 'a'", "event.data.a == ('a')",
				"event.data.a.startsWith ('a') == true", "event.data.a.matches('\\\\w') == (event.data.b == 1)", "event.data.b == 1 == true", "'a' == event.data.a == event.data.l.exists(x, x == 1)", "0 < event.data.b", "event.data.a.contains('\\'') != true", "event.data.b - 1.0 < 1e0", "event.data.a < 'b'", ".5 < event.data.b", "event.data.a.matches('^[a-z]$')"}).Draw(t, "more")
		case 9:
			return path() + "\n==\t" + lit() + " "
		case 10:
			return "!(" + genFilter(depth-1).Draw(t, "not") + ")"
		case 11, 12:
			return "(" + genFilter(depth-1).Draw(t, "nested") + ")"
		case 13:
			return "(" + genFilter(depth-1).Draw(t, "left") + " || " + genFilter(depth-1).Draw(t, "right") + ")"
		default:
			return "(" + genFilter(depth-1).Draw(t, "if") + " ? " + genConjunct(depth-1).Draw(t, "then") + " : " + genConjunct(depth-1).Draw(t, "else") + ")"
		}
	})
}

func genFilter(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(genConjunct(depth), 1, 4).Draw(t, "conjuncts")
		return strings.Join(parts, rapid.SampledFrom([]string{" && ", "&&", "\n&& "}).Draw(t, "and"))
	})
}

func compiles(filter string) bool {
	_, err := Compile(filter)
	return err == nil
}

var genScalar = rapid.SampledFrom([]string{
	`"a"`, `"b"`, `""`, `"O'B"`, `" && "`, `"a b"`, `"ä"`, `1`, `-1`, `0`, `-0`, `1.5`, `2`, `16`, `true`, `false`, `null`,
	`9007199254740992`, `9007199254740993`, `9223372036854775808`, `18446744073709551616`, `1e300`,
	`{"b":1}`, `{"b":{"c":"a"}}`, `[1,2]`, `["a"]`,
})

var genJSON = rapid.Custom(func(t *rapid.T) json.RawMessage {
	if rapid.IntRange(0, 9).Draw(t, "bare") == 0 {
		return json.RawMessage(genScalar.Draw(t, "scalar"))
	}
	var b strings.Builder
	b.WriteString("{")
	for i, k := range []string{"a", "b", "a b", "ä", "l"} {
		if rapid.Bool().Draw(t, "has") || i == 0 {
			if b.Len() > 1 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, "%q:%s", k, genScalar.Draw(t, k))
		}
	}
	b.WriteString("}")
	return json.RawMessage(b.String())
})

var genVars = rapid.Custom(func(t *rapid.T) *Vars {
	e := &belfry.Event{Type: rapid.SampledFrom([]string{"t.a", "t.b", ""}).Draw(t, "type"), Data: genJSON.Draw(t, "data"), Variables: genJSON.Draw(t, "variables")}
	if rapid.Bool().Draw(t, "recorded") {
		e.Record = genJSON.Draw(t, "record")
	}
	if rapid.Bool().Draw(t, "extended") {
		e.Extensions = map[string]json.RawMessage{"a": json.RawMessage(genScalar.Draw(t, "extension"))}
	}
	f := Facts{Ancestors: []belfry.Object{
		{ID: "course/1", Type: rapid.SampledFrom([]string{"course", "x"}).Draw(t, "object type"), Hidden: rapid.Bool().Draw(t, "hidden"), Attributes: genJSON.Draw(t, "attributes")},
		{ID: "category/1", Attributes: genJSON.Draw(t, "container")},
	}}
	if rapid.Bool().Draw(t, "actor") {
		f.Actor = &belfry.User{ID: "user/1", Attributes: genJSON.Draw(t, "actor")}
	}
	return NewVars(e, f)
})

func TestLiftingIsTheFilter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filter := genFilter(2).Filter(compiles).Draw(t, "filter")
		for range 4 {
			compareLifting(t, filter, genVars.Draw(t, "vars"))
		}
	})
}

// Readable has words for whatever compiles, and negation changes them.
func TestReadableIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filter := genFilter(2).Filter(compiles).Draw(t, "filter")
		yes, err := Readable(filter, words.For("en"), nil)
		if err != nil || yes == "" {
			t.Fatalf("%q, %v", yes, err)
		}
		no, err := Readable("!("+filter+")", words.For("en"), nil)
		if err != nil || no == "" || no == yes {
			t.Fatalf("%q reads %q, negated %q, %v", filter, yes, no, err)
		}
	})
}

func FuzzLift(f *testing.F) {
	for _, seed := range []string{
		`event.data.shortname == 'CPR'`, `'x' == event.data["a b"] && (event.data.n in [1, 2.0, "x"] && !has(event.data.y))`,
		`event.data.a == 'a' // c`, `event.data.a == """x"""`, `event.data.a == r'\' && true`, `event.data.a == 'a' == true`, `record == false || event.data.a == 1`,
		`event.data.a in ['x'] ? true : false`, "event.data.`a` == 1", `event.data.a == -9223372036854775808`, `.event.data.a == 1`, `(event).data.a == 1`, `((event.data.a == 1))`,
		`event.data.in == 1`, `event.data.a == 'O\\'B' && event.data.b.matches('^x\\.$') == true && event.data.n in (['x'])`, `'x' in event.data.l && event.data.a == record.b && null == event.data.c`,
		`event.data.a in event.data.l && size(event.data.a) == 3 && event.data.n in (event.data.l)`, `-5 < event.data.a && event.data.b.startsWith('x') || .5 > event.data.n`, `event.data.l.exists(x, x.a == 1 && 'é' != event.data.b)`, `event.data.a == 5 - -5`,
		`event.data.a == 1 && event.data.l.exists(event, event.a == 1)`, `event.data.a==1&&event.data.b!=2`,
	} {
		f.Add(seed, `{"a":1,"b":"x","n":2,"shortname":"CPR","a b":"x","l":[{"a":1}]}`)
	}
	f.Fuzz(func(t *testing.T, filter, data string) {
		if _, err := Compile(filter); err != nil || len(filter) > 500 {
			return
		}
		e := sampleEvent()
		e.Data = json.RawMessage(data)
		compareLifting(t, filter, NewVars(e, sampleFacts()))
		e.Record = json.RawMessage(data)
		e.Data = nil
		compareLifting(t, filter, NewVars(e, Facts{}))
	})
}

// What is common is lifted without CEL, which takes fifty times as long: a
// million filters are lifted at start.
func TestCommonFormsAreLiftedFromText(t *testing.T) {
	for _, filter := range []string{
		`event.data.shortname == 'CPR' && 'urgent' in event.data.tags`,
		`event.data.shortname == 'CPR' && event.actor == record.owner`,
		`event.data.shortname == 'CPR' && event.data.name.matches('^a\\.b$')`,
		`event.data.shortname == 'CPR' && event.data.name.startsWith("O\\'B")`,
		`event.data.shortname == 'CPR' && size(event.data.tags) == 3 && event.data.parent != null && event.data.owner == null`,
		`event.data.shortname == 'CPR' && event.data.tags.exists(x, x == 'a') && (event.data.n == 1 || event.data.n > 5)`,
	} {
		if _, err := Compile(filter); err != nil {
			t.Fatal(err)
		}
		l, ok := liftText(filter)
		if !ok || len(l.Equalities) != 1 {
			t.Errorf("%s: %v, %+v", filter, ok, l)
		}
	}
}

func BenchmarkLift(b *testing.B) {
	for name, filter := range map[string]string{
		"text":    `event.data.shortname == 'CPR' && object.type in ['course'] && event.data.n > 5`,
		"checked": `event.data.shortname == 'C\'PR' && object.type in ['course'] && event.data.n > 5`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Lift(filter); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEval(b *testing.B) {
	p, err := Compile(`event.data.shortname == 'CPR' && event.data.n > 5 && object.type == 'course'`)
	if err != nil {
		b.Fatal(err)
	}
	v := NewVars(sampleEvent(), sampleFacts())
	b.ReportAllocs()
	for b.Loop() {
		p.Eval(v)
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(`event.data.shortname == 'CPR' && event.data.n > 5`); err != nil {
			b.Fatal(err)
		}
	}
}
