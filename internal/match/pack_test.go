package match

import (
	"fmt"
	"hash/maphash"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// fill draws a value of any type: every field of a struct is drawn, so that a
// field added to belfry.Subscription is tested from its first day.
func fill(t *rapid.T, v reflect.Value, depth int) {
	if v.Type() == timeType {
		at := time.Unix(rapid.Int64Range(-1<<33, 1<<34).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		if rapid.IntRange(0, 3).Draw(t, "zone") == 0 {
			at = at.In(time.FixedZone("", 60*rapid.IntRange(-700, 700).Draw(t, "offset")))
		}
		v.Set(reflect.ValueOf(at))
		return
	}
	none := depth > 6 || rapid.IntRange(0, 3).Draw(t, "none") == 0
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), depth+1)
		}
	case reflect.Pointer:
		if !none {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth+1)
		}
	case reflect.Slice:
		if !none {
			v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, "length"), 3))
			for i := range v.Len() {
				fill(t, v.Index(i), depth+1)
			}
		}
	case reflect.Map:
		if !none {
			v.Set(reflect.MakeMap(v.Type()))
			for range rapid.IntRange(0, 3).Draw(t, "length") {
				k, x := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(t, k, depth+1)
				fill(t, x, depth+1)
				v.SetMapIndex(k, x)
			}
		}
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "course/41", "user/8", "a", "core.*"})).Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "truth"))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, "number"))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "number") >> (64 - v.Type().Bits()))
	default:
		v.SetInt(rapid.Int64().Draw(t, "number") >> (64 - v.Type().Bits()))
	}
}

// What is packed comes back whole, whatever fields it has.
func TestPackedComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := New()
		want := map[string]*belfry.Subscription{}
		for i := range rapid.IntRange(1, 8).Draw(t, "subscriptions") {
			s := new(belfry.Subscription)
			fill(t, reflect.ValueOf(s).Elem(), 0)
			s.ID = fmt.Sprintf("sub_%d", i)
			s.State = belfry.SubscriptionActive
			s.Types = unique(s.Types)
			if rapid.Bool().Draw(t, "valid filter") {
				s.Filter = rapid.SampledFrom(filters).Draw(t, "filter")
			}
			_ = x.Put(s)                               // a random filter does not compile: it is kept all the same
			s.Filter, s.Combined = s.WholeFilter(), "" // what is kept of its filters is the whole
			want[s.ID] = s
		}
		snap := x.Snapshot()
		for range 2 { // the second time from the cache
			for id, s := range want {
				got, ok := snap.Get(id)
				if !ok {
					t.Fatalf("%s is not there", id)
				}
				if d := cmp.Diff(s, got, cmpopts.EquateEmpty()); d != "" {
					t.Fatalf("-put +got\n%s", d)
				}
			}
		}
	})
}

// A head says the same read whole and read in parts, and its values are those
// that were lifted.
func TestHeads(t *testing.T) {
	for _, filter := range append(filters, `event.data.a == 'a' && event.data.b == "event" && event.data.c == ' ' && event.data.n == 1e3`,
		`event.data.a in ['', 'x', true, false, 0.5] && (event.data.b > 1 && event.data.c > 1)`, " ", `!(event.data.a != 'x' || has(event.data.b) && event.data.c) && event.data.n in [1, 2] || event.data.b.contains("event")`, `event.data.a == 'O\'Brien'`) {
		s := active("sub_1", "course/1", "a.*", "b")
		s.ObjectTypes, s.Scope.Applies, s.Filter = []string{"forum"}, belfry.AppliesChildren, filter
		h, _ := headOf(s)
		w := words{seed: maphash.MakeSeed()}
		e, _ := pack(&h, s, nil, &w)
		snap := &Snapshot{words: w.list}
		r := snap.read(e)
		h.admins = false // not of the head that is packed: known from the origin
		if d := cmp.Diff(h, r.head(), cmp.AllowUnexported(head{}), cmp.Comparer(func(a, b expr.Value) bool { return a == b }), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: -written +read\n%s", filter, d)
		}
		var got belfry.Subscription
		snap.unpack(e, &got, nil)
		if d := cmp.Diff(s, &got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: -packed +unpacked\n%s", filter, d)
		}
	}
}

// Words are bounded: what finds no room is written out and read all the same.
func TestWordsAreBounded(t *testing.T) {
	w := words{seed: maphash.MakeSeed()}
	for i := range maxWords + 10 {
		w.number(fmt.Sprintf("word %d", i), true)
	}
	if len(w.list) != maxWords {
		t.Fatalf("%d words", len(w.list))
	}
	p := packer{words: &w}
	texts := []string{"word 1", "another", "word 99999999", "word 1"}
	for _, s := range texts {
		p.word(s)
	}
	u := unpacker{src: string(p.buf), words: w.list}
	for _, s := range texts {
		if got := u.text(); got != s {
			t.Errorf("%q, want %q", got, s)
		}
	}
	if len(w.once) > maxSeen {
		t.Errorf("%d strings remembered", len(w.once))
	}
}
