package match

import (
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// entry is a subscription as the index keeps it, packed: first the head, which
// is what matching looks at, in the order in which it does, then the rest.
// A million of them are in memory, each by value where it is filed: what looks
// one up has its bytes at the next step. Two are the same when their bytes are.
type entry struct{ packed string }

// maxPlaces bounds under how many keys one subscription is filed; beyond it
// (types x values of an in list) it is looked at for each event of its types.
const maxPlaces = 4096

// head is an entry's head, unpacked for filing.
type head struct {
	id          string
	scope       string // as it was written; empty is the root
	types       []string
	applies     string
	objectTypes []string
	filter      string
	eqs         []expr.Equality // the one it is filed under first, see filed
	residual    string
	test        *expr.Test // the residual, when CEL is not needed for it
	admins      bool       // it is one of administrators
}

func (h *head) scopeObject() string {
	if h.scope == "" {
		return belfry.RootObject
	}
	return h.scope
}

// filed is the equality the entry is filed under, nil when it is in the plain
// bag.
func (h *head) filed() *expr.Equality {
	if len(h.eqs) > 0 && h.fits(&h.eqs[0]) {
		return &h.eqs[0]
	}
	return nil
}

// evaluated reports whether the filter is evaluated for each event of the types
// at the scope.
func (h *head) evaluated() bool { return strings.TrimSpace(h.filter) != "" && h.filed() == nil }

// fits reports whether filing under an equality takes few enough places.
func (h *head) fits(q *expr.Equality) bool { return len(q.Values)*len(h.patterns()) <= maxPlaces }

// patterns are the type patterns an entry is filed under, each once; "" stands
// for every type.
func (h *head) patterns() []string {
	if len(h.types) == 0 {
		return everyType
	}
	return h.types
}

var everyType = []string{""}

// headOf takes from a subscription what matching needs and lifts its filter.
func headOf(s *belfry.Subscription) (head, error) {
	h := head{
		id: s.ID, scope: s.Scope.Object, types: unique(s.Types), applies: s.Scope.Applies, objectTypes: s.ObjectTypes,
		admins: s.OfAdministrators(),
	}
	h.filter = s.WholeFilter()
	if strings.TrimSpace(h.filter) == "" {
		return h, nil
	}
	lifted, err := expr.Lift(h.filter)
	if err != nil {
		h.residual = h.filter // fails again when it is evaluated, with the same words
		return h, err
	}
	h.eqs, h.residual = lifted.Equalities, lifted.Residual
	if h.residual != "" {
		if t, ok := expr.TestOf(h.residual); ok {
			h.test = &t
		}
	}
	return h, nil
}

// unique is list without repetitions, list itself when it has none.
func unique(list []string) []string {
	for i, s := range list {
		if slices.Contains(list[:i], s) {
			var out []string
			for _, s := range list {
				if !slices.Contains(out, s) {
					out = append(out, s)
				}
			}
			return out
		}
	}
	return list
}

// How a value of an equality is written.
const (
	valueText = iota // the text itself
	valuePart        // a part of the filter: where it begins, its length
	valueNumber
	valueTrue
	valueFalse
)

// How a residual is written.
const (
	residualNone = iota
	residualPart // of the filter
	residualText
)

// pack makes the entry of a subscription and its head, whose equalities are in
// their final order.
func pack(h *head, s *belfry.Subscription, buf []byte, w *words) (entry, []byte) {
	p := packer{buf: buf[:0], words: w}
	p.inline(h.id)
	p.text(h.scope)
	p.texts(h.types)
	p.text(h.applies)
	p.texts(h.objectTypes)
	p.inline(h.filter)
	if h.filter != "" {
		p.uint(uint64(len(h.eqs)))
		for i := range h.eqs {
			p.word(string(h.eqs[i].Path))
			p.uint(uint64(len(h.eqs[i].Values)))
			for _, v := range h.eqs[i].Values {
				p.value(v, h.filter)
			}
		}
		switch at := strings.Index(h.filter, h.residual); {
		case h.residual == "":
			p.uint(residualNone)
		case at >= 0:
			p.uint(residualPart)
			p.part(at, len(h.residual))
		default:
			p.uint(residualText)
			p.inline(h.residual)
		}
		if h.test != nil {
			p.test(h.test, h.filter)
		} else {
			p.buf = append(p.buf, 0)
		}
	}
	packFields(&p, subscriptionFields().codecs, reflect.ValueOf(s).Elem())
	return entry{string(p.buf)}, p.buf
}

func (p *packer) texts(list []string) {
	p.uint(uint64(len(list)))
	for _, s := range list {
		p.text(s)
	}
}

// test writes what a test does (0 = there is none), and then its tests, or its
// path and values.
func (p *packer) test(t *expr.Test, filter string) {
	p.buf = append(p.buf, byte(t.Op))
	if t.Op.Joins() {
		p.uint(uint64(len(t.Tests)))
		for i := range t.Tests {
			p.test(&t.Tests[i], filter)
		}
		return
	}
	p.text(string(t.Path)) // not at once a word: each filter may have its own
	p.uint(uint64(len(t.Values)))
	for _, v := range t.Values {
		p.value(v, filter)
	}
}

func (p *packer) part(at, n int) {
	p.uint(uint64(at))
	p.uint(uint64(n))
}

func (p *packer) value(v expr.Value, filter string) {
	switch x := v.Any().(type) {
	case string:
		if at := strings.Index(filter, x); at >= 0 && len(x) > 2 {
			p.buf = append(p.buf, valuePart)
			p.part(at, len(x))
			return
		}
		p.buf = append(p.buf, valueText)
		p.text(x)
	case float64:
		p.buf = append(p.buf, valueNumber)
		p.buf = binary.LittleEndian.AppendUint64(p.buf, math.Float64bits(x))
	case bool:
		if x {
			p.buf = append(p.buf, valueTrue)
		} else {
			p.buf = append(p.buf, valueFalse)
		}
	}
}

// reader reads an entry's head part by part, in the order in which pack wrote
// it: id, scope, types, applies, object types, filter, equalities, residual,
// its test.
type reader struct {
	unpacker
	filter string
}

func (s *Snapshot) read(e entry) reader {
	return reader{unpacker: unpacker{src: e.packed, words: s.words}}
}

// id is the identity of an entry.
func (e entry) id() string {
	u := unpacker{src: e.packed}
	return u.text()
}

func (r *reader) scopeObject() string {
	if s := r.text(); s != "" {
		return s
	}
	return belfry.RootObject
}

// toFilter passes over what stands before the equalities.
func (r *reader) toFilter() {
	skip := func() {
		for n := r.uint(); n > 0; n-- {
			r.text()
		}
	}
	r.text()
	r.text()
	skip()
	r.text()
	skip()
	r.filter = r.text()
}

func (r *reader) texts() []string {
	n := int(r.uint())
	if n == 0 {
		return nil
	}
	if at := r.pos; n == 1 {
		if id := r.uint(); id&1 != 0 { // a word: a list of it is there already
			return r.words[id>>1 : id>>1+1 : id>>1+1]
		}
		r.pos = at
	}
	list := make([]string, n)
	for i := range list {
		list[i] = r.text()
	}
	return list
}

// has reads a list of texts and reports whether it is empty or holds s.
func (r *reader) has(s string) (empty, found bool) {
	n := r.uint()
	empty = n == 0
	for ; n > 0; n-- {
		if r.text() == s {
			found = true
		}
	}
	return empty, found
}

func (r *reader) value() expr.Value {
	switch r.byte() {
	case valueText:
		return expr.Text(r.text())
	case valuePart:
		return expr.Text(r.part())
	case valueNumber:
		return expr.Number(math.Float64frombits(binary.LittleEndian.Uint64([]byte(r.take(8)))))
	case valueTrue:
		return expr.Bool(true)
	}
	return expr.Bool(false)
}

func (r *reader) part() string {
	at := int(r.uint())
	return r.filter[at : at+int(r.uint())]
}

// holds reads an equality and reports whether it is true of the variables.
func (r *reader) holds(vars *expr.Vars) bool {
	val, ok := vars.Lookup(expr.Path(r.text()))
	found := false
	for n := r.uint(); n > 0; n-- {
		if r.value() == val {
			found = true
		}
	}
	return ok && found
}

func (r *reader) equality() expr.Equality {
	q := expr.Equality{Path: expr.Path(r.text())}
	q.Values = make([]expr.Value, r.uint())
	for i := range q.Values {
		q.Values[i] = r.value()
	}
	return q
}

func (r *reader) residual() string {
	switch r.uint() {
	case residualPart:
		return r.part()
	case residualText:
		return r.text()
	}
	return ""
}

// truth reads a residual's test and says what it is of the variables, unsure
// when there is none. All of it is read, also when the first part decides.
func (r *reader) truth(vars *expr.Vars) expr.Truth {
	op := expr.Op(r.byte())
	switch {
	case op == 0:
		return expr.Unsure
	case op.Joins():
		said := op.Start()
		for n := r.uint(); n > 0; n-- {
			said = op.Join(said, r.truth(vars))
		}
		return said
	}
	path := expr.Path(r.text())
	n := r.uint()
	if n == 0 {
		return vars.Holds(op, path, expr.Value{})
	}
	said := expr.False
	for ; n > 0; n-- {
		if val := r.value(); said != expr.True {
			said = vars.Holds(op, path, val)
		}
	}
	return said
}

// skipTest passes over a test.
func (r *reader) skipTest() {
	op := expr.Op(r.byte())
	switch {
	case op == 0:
	case op.Joins():
		for n := r.uint(); n > 0; n-- {
			r.skipTest()
		}
	default:
		r.text()
		for n := r.uint(); n > 0; n-- {
			r.value()
		}
	}
}

// test reads a test, nil when there is none.
func (r *reader) test() *expr.Test {
	t := &expr.Test{Op: expr.Op(r.byte())}
	switch {
	case t.Op == 0:
		return nil
	case t.Op.Joins():
		t.Tests = make([]expr.Test, r.uint())
		for i := range t.Tests {
			t.Tests[i] = *r.test() // the parts of a test are some
		}
	default:
		eq := r.equality()
		t.Path, t.Values = eq.Path, eq.Values
	}
	return t
}

// head reads the whole head. The reader stands at its beginning and comes to
// stand at what follows.
func (r *reader) head() head {
	h := head{id: r.text(), scope: r.text(), types: r.texts(), applies: r.text(), objectTypes: r.texts()}
	h.filter = r.text()
	if r.filter = h.filter; h.filter != "" {
		h.eqs = make([]expr.Equality, r.uint())
		for i := range h.eqs {
			h.eqs[i] = r.equality()
		}
		h.residual = r.residual()
		h.test = r.test()
	}
	return h
}

// unpack writes the subscription of an entry into sub, which is zero, as is
// the room for what is in it.
func (s *Snapshot) unpack(e entry, sub *belfry.Subscription, room *common) {
	r := s.read(e)
	r.room = room
	sub.ID, sub.State = r.text(), belfry.SubscriptionActive
	sub.Scope.Object = r.text()
	sub.Types = r.texts()
	sub.Scope.Applies = r.text()
	sub.ObjectTypes = r.texts()
	if sub.Filter = r.text(); sub.Filter != "" {
		r.filter = sub.Filter
		for n := r.uint(); n > 0; n-- {
			r.text()
			for n := r.uint(); n > 0; n-- {
				r.value()
			}
		}
		r.residual()
		r.skipTest()
	}
	r.subscription(sub)
}
