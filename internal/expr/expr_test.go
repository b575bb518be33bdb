package expr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

func sampleEvent() *belfry.Event {
	return &belfry.Event{
		ID: "41-1462786276", Source: "/moodle", Type: "core.course_updated",
		Time:   time.Date(2016, 5, 9, 9, 31, 16, 0, time.UTC),
		Object: "course/41", Actor: "user/8", Related: []string{"user/9"}, Flags: []string{"silent"},
		Data:       json.RawMessage(`{"shortname":"CPR","n":6,"big":9007199254740993,"l":[1,2,3],"on":true,"deep":{"a b":{"c":"x"}},"nil":null,"zero":-0.0}`),
		Record:     json.RawMessage(`{"id":41,"fullname":"Cardiopulmonary Resuscitation"}`),
		Variables:  json.RawMessage(`{"v":"w"}`),
		Extensions: map[string]json.RawMessage{"site": json.RawMessage(`"north"`)},
	}
}

func sampleFacts() Facts {
	return Facts{
		Ancestors: []belfry.Object{
			{ID: "course/41", Type: "course", Parent: "category/2", Title: "CPR", Attributes: json.RawMessage(`{"level":2}`), Hidden: true},
			{ID: "category/2", Type: "category"},
			{ID: belfry.RootObject},
		},
		Actor: &belfry.User{ID: "user/8", Locale: "pt-BR", Attributes: json.RawMessage(`{"dept":"EM"}`)},
		Now:   time.Date(2016, 5, 9, 9, 31, 17, 0, time.UTC),
	}
}

func TestVerdicts(t *testing.T) {
	for filter, want := range map[string]string{
		`event.data.shortname == 'CPR'`:                                belfry.FilterTrue,
		`event.data["shortname"] == 'CPR'`:                             belfry.FilterTrue,
		`event.data.n == 6`:                                            belfry.FilterTrue, // a JSON number against an int
		`event.data.n == 6.0 && event.data.n > 5`:                      belfry.FilterTrue,
		`event.data.n == '6'`:                                          belfry.FilterFalse,
		`event.data.n in [5, 6]`:                                       belfry.FilterTrue,
		`event.data.n + 1 == 7`:                                        belfry.FilterFault, // documented: write 1.0
		`event.data.n + 1.0 == 7.0`:                                    belfry.FilterTrue,
		`event.data.on`:                                                belfry.FilterTrue,
		`event.data.n`:                                                 belfry.FilterFault, // not a bool
		`event.data.deep["a b"].c == "x"`:                              belfry.FilterTrue,
		`event.data.nil == null`:                                       belfry.FilterTrue,
		`event.data.missing == 1`:                                      belfry.FilterFalse,
		`event.data.missing != 1`:                                      belfry.FilterFalse, // missing is no match either way
		`event.data.missing.deeper == 1`:                               belfry.FilterFalse,
		`event.data.shortname.deeper == 1`:                             belfry.FilterFalse,
		`!has(event.data.missing)`:                                     belfry.FilterTrue,
		`has(event.data.n) && !has(event.subject) && has(event.actor)`: belfry.FilterTrue,
		`event.data.l[5] == 1`:                                         belfry.FilterFalse,
		`event.data.l.exists(x, x > 2)`:                                belfry.FilterTrue,
		`event.data.missing == 1 || event.data.n == 6`:                 belfry.FilterTrue,
		`event.data.shortname > 5`:                                     belfry.FilterFault,
		`record.id == 41 && event.record.id == 41`:                     belfry.FilterTrue,
		`record == false`:                                              belfry.FilterFalse,
		`object.type == 'course' && object.hidden`:                     belfry.FilterTrue,
		`object.attributes.level == 2 && !has(object.attributes.x)`:    belfry.FilterTrue,
		`container.id == 'category/2' && container.title == ''`:        belfry.FilterTrue,
		`actor.attributes.dept == 'EM' && actor.locale == 'pt-BR'`:     belfry.FilterTrue,
		`'category/2' in ancestors && ancestors.size() == 3`:           belfry.FilterTrue,
		`'user/9' in related && 'silent' in event.flags`:               belfry.FilterTrue,
		`event.variables.v == 'w' && event.extensions.site == 'north'`: belfry.FilterTrue,
		`event.time < timestamp('2016-05-10T00:00:00Z')`:               belfry.FilterTrue,
		`now - event.time < duration('2s')`:                            belfry.FilterTrue,
		`event.time.getFullYear() == 2016`:                             belfry.FilterTrue,
		`[object, container][0] == object`:                             belfry.FilterTrue,
		`object != container`:                                          belfry.FilterTrue,
	} {
		p, err := Compile(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		v := NewVars(sampleEvent(), sampleFacts())
		if got := p.Eval(v); got.Code != want {
			t.Errorf("%s: %+v, want %s", filter, got, want)
		}
		if got := p.EvalContext(context.Background(), v); got.Code != want {
			t.Errorf("%s with a context: %+v, want %s", filter, got, want)
		}
	}
}

// What an event does not carry is empty or false, never a crash.
func TestMissing(t *testing.T) {
	for filter, want := range map[string]string{
		`event.data.x == 1`:         belfry.FilterFalse,
		`event.record.x == 1`:       belfry.FilterFalse,
		`record.x == 1`:             belfry.FilterFalse,
		`event.variables.x == 1`:    belfry.FilterFalse,
		`event.extensions.x == 1`:   belfry.FilterFalse,
		`object.attributes.x == 1`:  belfry.FilterFalse,
		`container.id == ''`:        belfry.FilterTrue,
		`actor.id == ''`:            belfry.FilterTrue,
		`event.actor == ''`:         belfry.FilterTrue,
		`size(related) == 0`:        belfry.FilterTrue,
		`size(ancestors) == 0`:      belfry.FilterTrue,
		`event.data == null`:        belfry.FilterTrue,
		`has(event.data)`:           belfry.FilterFalse,
		`has(event.data.x)`:         belfry.FilterFalse,
		`has(event.time)`:           belfry.FilterFalse,
		`event.data[0] == 1`:        belfry.FilterFalse,
		`has(actor.attributes)`:     belfry.FilterFalse,
		`event.data.all(x, x == 1)`: belfry.FilterFault,
		`belfry.Event{}.id == ''`:   belfry.FilterFault,
	} {
		p, err := Compile(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if got := p.Eval(NewVars(&belfry.Event{}, Facts{})); got.Code != want {
			t.Errorf("%s: %+v, want %s", filter, got, want)
		}
		broken := &belfry.Event{Data: json.RawMessage(`{"x":`), Record: json.RawMessage(`]`), Variables: json.RawMessage(`[1]`)}
		if got := p.Eval(NewVars(broken, Facts{})); got.Code == belfry.FilterTrue && want != belfry.FilterTrue {
			t.Errorf("%s matched broken JSON", filter)
		}
	}
}

func TestAnonymousActorCannotBeProbed(t *testing.T) {
	e := sampleEvent()
	e.Flags = []string{belfry.FlagAnonymous}
	v := NewVars(e, sampleFacts())
	for _, filter := range []string{`event.actor == 'user/8'`, `actor.id == 'user/8'`, `actor.attributes.dept == 'EM'`, `has(event.actor)`} {
		p, err := Compile(filter)
		if err != nil {
			t.Fatal(err)
		}
		if p.Eval(v).True() {
			t.Errorf("%s tells who did it", filter)
		}
		l, err := Lift(filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range l.Equalities {
			if q.Holds(v) {
				t.Errorf("%s tells who did it through the index", filter)
			}
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for filter, want := range map[string]string{
		`event.typ == 'a'`:                     "line 1, column 6: undefined field 'typ' (did you mean type?)",
		"event.type == 'a' &&\n evnt.id == ''": "line 2, column 2: undeclared reference to 'evnt'",
		`event.type == 5`:                      "text needs quotes",
		`event.data.x = 5`:                     "equality is written ==",
		`event.type`:                           "must be true or false",
		`shortname == 'x'`:                     "fields of the event's data are event.data.…",
		`subject == 'x'`:                       "did you mean event.subject?",
		`event.data.x.matches('(')`:            "invalid matches argument",
		`timestamp('x') < now`:                 "invalid timestamp argument",
		``:                                     "empty",
		"event.id == '\xff'":                   "UTF-8",
		`'x`:                                   "line 1, column 1",
		`event.data.x ==`:                      "line 1, column 16: Syntax error: the expression ends here and something is missing (write e.g.",
		`event.data.x) == 1`:                   "line 1, column 13: Syntax error: mismatched input ')' (write e.g.",
		`foo.bar == 1`:                         "undeclared reference to 'foo' (variables are event, object,",
		`now > '2026-01-01'`:                   "a time is written timestamp('2026-05-09T09:31:16Z'), a span duration('1h')",
		`event.time > 5`:                       "a time is written timestamp('2026-05-09T09:31:16Z')",
		`event.type in 'x'`:                    "in takes a list, as in ['a', 'b']; a part of a text is found by event.type.contains('x')",
		`'a' + 1 == 'a1'`:                      "string(…) makes text of a number",
		strings.Repeat("!", 9000) + "true":     "at most 8192",
		strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200): "",
	} {
		_, err := Compile(filter)
		if err == nil {
			t.Errorf("%.40s: compiled", filter)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", filter, err, want)
		}
		var src *SourceError
		if belfry.KindOf(err) != belfry.Invalid || !errors.As(err, &src) || len(src.Faults) == 0 {
			t.Errorf("%.40s: %#v is not an Invalid with faults", filter, err)
		}
		if strings.Count(err.Error(), "did you mean") > strings.Count(err.Error(), ";")+1 {
			t.Errorf("%.40s: hints twice: %v", filter, err)
		}
	}
}

// Work is bounded by the cost limit and by the context.
func TestLimits(t *testing.T) {
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 400), ",") + "]"
	p, err := Compile(list + ".all(a, " + list + ".all(b, " + list + ".all(c, a == b && b == c)))")
	if err != nil {
		t.Fatal(err)
	}
	v := NewVars(sampleEvent(), sampleFacts())
	if got := p.Eval(v); got.Code != belfry.FilterFault || !strings.Contains(got.Detail, "too much work") {
		t.Fatalf("%+v, want the cost limit", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got := p.EvalContext(ctx, v); got.Code != belfry.FilterFault {
		t.Fatalf("%+v, want an interruption", got)
	}
}

// Work on values whose types only the event tells is counted by its size: a
// short expression over one event would else take gigabytes and minutes.
func TestLimitsOfDynamicValues(t *testing.T) {
	var numbers strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&numbers, ",%d", i)
	}
	data := fmt.Sprintf(`{"text":%q,"list":[%s],"n":7}`, strings.Repeat("x", 100_000), numbers.String()[1:])
	v := NewVars(&belfry.Event{Data: []byte(data)}, Facts{})
	for _, filter := range []string{
		`event.data.list.map(a, event.data.text + event.data.text).size() > 0`,
		`[1, 2, 3, 4, 5, 6, 7, 8].map(a, event.data.text + event.data.text + event.data.text).size() > 0`,
		`event.data.list.all(a, event.data.text + "y" != "")`,
		`event.data.list.all(a, "y" + event.data.text != "")`,
		`event.data.list.all(a, a in event.data.list)`,
		`event.data.list.all(a, !("z" in event.data.list))`,
		`event.data.list.all(a, size(event.data.text) > 0)`,
		`event.data.list.all(a, event.data.text.size() > 0)`,
		`event.data.list.all(a, event.data.text < event.data.text || true)`,
		`event.data.list.all(a, event.data.text == event.data.text)`,
		`event.data.list.all(a, event.data.list == event.data.list)`,
		`event.data.list.all(a, string(event.data.text) != "")`,
		`event.data.list.all(a, event.data.text.contains("y") || true)`,
		`event.data.list.all(a, event.data.text.startsWith(event.data.text))`,
		`event.data.list.all(a, event.data.text.endsWith(event.data.text))`,
		`event.data.list.all(a, event.data.text.matches("x*y") || true)`,
		`event.data.list.all(a, bytes(event.data.text) != b"")`,
	} {
		p, err := Compile(filter)
		if err != nil {
			t.Fatal(filter, err)
		}
		start := time.Now()
		if got := p.Eval(v); got.Code != belfry.FilterFault || !strings.Contains(got.Detail, "too much work") {
			t.Errorf("%s: %+v after %v, want the cost limit", filter, got, time.Since(start))
		}
	}
	for _, filter := range []string{
		`event.data.text + "y" != ""`, `event.data.n in event.data.list`, `size(event.data.text) == 100000`, `event.data.list.exists(a, a == event.data.n + 1.0)`,
	} {
		p, err := Compile(filter)
		if err != nil {
			t.Fatal(filter, err)
		}
		if got := p.Eval(v); got.Code != belfry.FilterTrue {
			t.Errorf("%s: %+v, want true", filter, got)
		}
	}
}

func TestReadable(t *testing.T) {
	for filter, want := range map[string]string{
		``:                              ``,
		`event.data.shortname == 'CPR'`: `shortname is "CPR"`,
		`'CPR' == event.data.shortname`: `shortname is "CPR"`,
		`event.data.a.b != 3 && object.type in ['course', 'forum']`:      `a.b is not 3 and the object's type is one of "course", "forum"`,
		`!(event.data.a == 1 || event.actor == 'user/8')`:                `a is not 1 and the actor is not "user/8"`,
		`!(event.data.a > 1 && !(event.data.b <= 2))`:                    `a is at most 1 or b is at most 2`,
		`(event.data.a == 1 || event.data.b == 2) && event.data.c == 3`:  `(a is 1 or b is 2) and c is 3`,
		`event.data.a == 1 || event.data.b == 2 && event.data.c == 3`:    `a is 1 or (b is 2 and c is 3)`,
		`!(event.data.a == 1 || event.data.b == 2 && event.data.c == 3)`: `a is not 1 and (b is not 2 or c is not 3)`,
		`!!(5 < event.data.a)`:                                           `a is more than 5`,
		`!(5 < event.data.a)`:                                            `a is at most 5`,
		`!(event.data.a in ['x'])`:                                       `a is not "x"`,
		`!(event.data.a in ['x', 'y'])`:                                  `a is none of "x", "y"`,
		`!event.data.name.startsWith('A')`:                               `name does not begin with "A"`,
		`event.data.name.endsWith('A') && event.data.name.contains('B')`: `name ends with "A" and name contains "B"`,
		`!event.data.name.matches('^A')`:                                 `name does not match the pattern "^A"`,
		`has(event.data.grade) && !has(event.actor)`:                     `grade is given and the actor is not given`,
		`'category/2' in ancestors`:                                      `it happened within "category/2"`,
		`!('user/8' in related)`:                                         `it is not about "user/8"`,
		`!object.hidden`:                                                 `the object is not hidden`,
		`object.hidden == false`:                                         `the object is not hidden`,
		`event.record == false`:                                          `the record is gone`,
		`record != false`:                                                `the record is still there`,
		`event.data.done == true`:                                        `done is true`,
		`event.data.done != true`:                                        `done is not true`,
		`event.actor != ''`:                                              `the actor is not empty`,
		`!(event.actor != '')`:                                           `the actor is empty`,
		`event.data.l.exists(x, x > 2)`:                                  `‹event.data.l.exists(x, x > 2)› is true`,
		`!event.data.l.exists(x, x > 2)`:                                 `‹event.data.l.exists(x, x > 2)› is not true`,
		`size(event.data.l) >= 2`:                                        `the size of l is at least 2`,
		`event.time > timestamp('2026-01-01T00:00:00Z')`:                 `the time is more than "2026-01-01T00:00:00Z"`,
		`record.grade < 50`:                                              `the record's grade is less than 50`,
		`true`:                                                           `always`,
		`!true`:                                                          `never`,
	} {
		got, err := Readable(filter, words.For("pt-BR"), nil)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", filter, got, want)
		}
	}
	if _, err := Readable("event.", words.For("en"), nil); belfry.KindOf(err) != belfry.Invalid {
		t.Errorf("a broken filter read as words: %v", err)
	}
}

func TestLiftForms(t *testing.T) {
	eq := func(path string, vals ...Value) Equality {
		return Equality{Path: Path(strings.ReplaceAll(path, "/", pathSep)), Values: vals}
	}
	for filter, want := range map[string]Lifted{
		`event.data.shortname == 'CPR'`:     {Equalities: []Equality{eq("event/data/shortname", Text("CPR"))}},
		`"CPR" == event.data["short name"]`: {Equalities: []Equality{eq("event/data/short name", Text("CPR"))}},
		`event.record.id == 41 && record.x == true && actor.attributes.d in ['a', "b", 'a', 3, 3.0,]`: {Equalities: []Equality{
			eq("record/id", Number(41)), eq("record/x", Bool(true)), eq("actor/attributes/d", Text("a"), Text("b"), Number(3))}},
		`(event.data.a == 1 && (event.data.b > 2)) && object.type == 'course'`: {Equalities: []Equality{
			eq("event/data/a", Number(1)), eq("object/type", Text("course"))}, Residual: `event.data.b > 2`},
		`event.data.a == 1 && (event.data.b == 2 || event.data.c)`: {Equalities: []Equality{
			eq("event/data/a", Number(1))}, Residual: `event.data.b == 2 || event.data.c`},
		`event.data.a == 1 || event.data.b == 2`:              {Residual: `event.data.a == 1 || event.data.b == 2`},
		`event.data.a == 1 ? true : false`:                    {Residual: `event.data.a == 1 ? true : false`},
		`event.data.a == event.data.b`:                        {Residual: `event.data.a == event.data.b`},
		`event.data.a == null`:                                {Residual: `event.data.a == null`},
		`event.data.a in []`:                                  {Residual: `event.data.a in []`},
		`event.data.a == 'O\'Brien' && event.data.a == r'\d'`: {Equalities: []Equality{eq("event/data/a", Text("O'Brien")), eq("event/data/a", Text(`\d`))}},
		`event.data.a == -5 && event.data.b == 0x10 && 1e3 == event.data.c && event.data.d == 5u`: {Equalities: []Equality{
			eq("event/data/a", Number(-5)), eq("event/data/b", Number(16)), eq("event/data/c", Number(1000)), eq("event/data/d", Number(5))}},
		`event.data == 'x' && event.type in ['a']`:       {Equalities: []Equality{eq("event/data", Text("x")), eq("event/type", Text("a"))}},
		`event.data.l[0] == 1`:                           {Residual: `event.data.l[0] == 1`},
		`"a b" in related`:                               {Residual: `"a b" in related`},
		"event.data.a == 1 // x && y\n&& event.id == ''": {Equalities: []Equality{eq("event/data/a", Number(1)), eq("event/id", Text(""))}},
		`event.data.a == 'x && y' && event.data.s.contains(' || ')`: {Equalities: []Equality{
			eq("event/data/a", Text("x && y"))}, Residual: `event.data.s.contains(" || ")`},
	} {
		want.Version = LifterVersion
		got, err := Lift(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		checked, err := liftChecked(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		opts := cmp.AllowUnexported(Value{})
		if d := cmp.Diff(want.Equalities, got.Equalities, opts); d != "" {
			t.Errorf("%s (-want +got)\n%s", filter, d)
		}
		if d := cmp.Diff(want, checked, opts); d != "" {
			t.Errorf("%s checked (-want +got)\n%s", filter, d)
		}
		if (got.Residual == "") != (want.Residual == "") {
			t.Errorf("%s: residual %q, want %q", filter, got.Residual, want.Residual)
		}
	}
	if _, err := Lift("event.type == 5"); err == nil {
		t.Error("a filter of wrong types was lifted")
	}
}

func TestLiftedRoundTrip(t *testing.T) {
	l, err := Lift(`event.data.a in ['x', 2, true] && event.data.b > 1`)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	var back Lifted
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(l, back, cmp.AllowUnexported(Value{})); d != "" {
		t.Fatal(d)
	}
}

func TestCacheIsBoundedAndShared(t *testing.T) {
	c := NewCache(16)
	v := func() *Vars { return NewVars(sampleEvent(), sampleFacts()) }
	for i := range 100 {
		if _, err := c.Eval(fmt.Sprintf("event.data.a > %d && event.data.b != 'x%d'", i, i), v()); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.Len(); n != 1 {
		t.Errorf("%d programs for one shape", n)
	}
	_, want := Compile("event.data.a > 5 &&")
	if _, err := c.Eval("event.data.a > 5 &&", v()); err == nil || err.Error() != want.Error() {
		t.Errorf("%v, want %v", err, want)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 50 {
				if _, err := c.Eval(fmt.Sprintf("event.data.a%d > 1", i), v()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := c.Len(); n > 16 {
		t.Errorf("%d programs kept, want at most 16", n)
	}
}

// Long lists hold each value once, in their order, like short ones.
func TestListsWithoutRepetitions(t *testing.T) {
	for _, n := range []int{3, 16, 17, 500} {
		var words []string
		var want []Value
		for i := range n {
			words = append(words, fmt.Sprint(i%7), fmt.Sprintf("'%d'", i), fmt.Sprintf("%d.0", i%7))
			if i < 7 {
				want = append(want, Number(float64(i)))
			}
			want = append(want, Text(fmt.Sprint(i)))
		}
		filter := "event.data.n in [" + strings.Join(words, ",") + "]"
		for name, lift := range map[string]func(string) (Lifted, error){"text": Lift, "checked": liftChecked} {
			l, err := lift(filter)
			if err != nil || len(l.Equalities) != 1 {
				t.Fatalf("%d, %s: %+v, %v", n, name, l, err)
			}
			if d := cmp.Diff(want, l.Equalities[0].Values, cmp.AllowUnexported(Value{})); d != "" {
				t.Errorf("%d, %s (-want +got)\n%s", n, name, d)
			}
		}
	}
}

// What is taken out, and what stays because the compiler looks at it or
// because it is not read as CEL does.
func TestShape(t *testing.T) {
	for filter, want := range map[string]string{
		`event.data.n > 5`:                                `event.data.n > _i0`,
		`event.data.n>-5.5&&'a'=="b"`:                     `event.data.n>-_f0&&_s0==_s1`,
		`5 < event.data.n - 1`:                            `_i0 < event.data.n - 1`,
		`event.data.a.startsWith( 'x' )`:                  `event.data.a.startsWith( _s0 )`,
		`event.data.l.exists(x, x == 'é' || x == 2)`:      `event.data.l.exists(x, x == _s0 || x == _i0)`,
		`event.data.a.matches('x')`:                       ``,
		`event.data.a in ['x', 'y']`:                      ``,
		`timestamp('2020-01-01T00:00:00Z') < now`:         ``,
		`duration('1h') == duration("2h")`:                ``,
		`event.data['a b'] == 1u`:                         ``,
		`event.data.a == 0x10`:                            ``,
		`event.data.a == 1e3`:                             ``,
		`.5 < event.data.a`:                               ``,
		`event.data.a == r'x'`:                            ``,
		`event.data.a == '''x'''`:                         ``,
		`event.data.a == 'O\'B'`:                          ``,
		`event.data.a == 'x' // c`:                        ``,
		`_i0 == 5`:                                        ``,
		`[5].all(_s0, _s0 == 'x')`:                        ``,
		`event.data.a == 9223372036854775808`:             ``,
		`event.data.a == 1 && "ä" == '' && a_s0 == 'x'`:   `event.data.a == _i0 && _s0 == _s1 && a_s0 == _s2`,
		strings.Repeat(`1 == 1 && `, 10) + `event.data.a`: `_i0 == _i1 && _i2 == _i3 && _i4 == _i5 && _i6 == _i7 && ` + strings.Repeat(`1 == 1 && `, 6) + `event.data.a`,
	} {
		var p params
		got, ok := p.shape(filter, nil)
		if !ok {
			got = nil
		}
		if string(got) != want {
			t.Errorf("%s: %s, want %s", filter, got, want)
		}
	}
}
