package api

import (
	"encoding/json"
	"reflect"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/manage"
	"github.com/belfryhq/belfry/internal/words"
)

// Sentences are made in English where they are decided, beside what they say as
// data. Here every answer is gone through before it leaves: whatever is a
// sentence of the house is said again in the reader's language. No operation has
// to think of it, and none can forget.

const readersLanguage = "Of the sentences: English, Spanish, French or German"

// sentences are the types that say something; an entry of an inbox is written
// in its owner's language already, as a whole.
var sentences = map[reflect.Type]func(v any, p *words.Printer){
	reflect.TypeFor[belfry.ReasonView](): func(v any, p *words.Printer) {
		r := v.(*belfry.ReasonView)
		r.Text = p.Reason(r.Reason)
	},
	reflect.TypeFor[belfry.ConditionView](): func(v any, p *words.Printer) {
		c := v.(*belfry.ConditionView)
		c.Text = p.Condition(c)
	},
	reflect.TypeFor[belfry.WhyChange](): func(v any, p *words.Printer) {
		c := v.(*belfry.WhyChange)
		c.Text = p.Say("why." + c.Code)
	},
	reflect.TypeFor[belfry.WhyAttempt](): func(v any, p *words.Printer) {
		a := v.(*belfry.WhyAttempt)
		a.Text = p.Say("why.outcome." + a.Outcome)
	},
	reflect.TypeFor[manage.Stored]():      func(v any, p *words.Printer) { v.(*manage.Stored).In(p) },
	reflect.TypeFor[belfry.SavedFilter](): func(v any, p *words.Printer) { manage.SayFilter(v.(*belfry.SavedFilter), p) },
	reflect.TypeFor[InboxItem]():          nil,
}

// speaks reports whether an answer of a type holds sentences. What holds them
// as any is found out when it is answered.
func speaks(t reflect.Type, seen map[reflect.Type]bool) bool {
	if say, known := sentences[t]; known || t == reflect.TypeFor[JobView]() {
		return !known || say != nil
	}
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return speaks(t.Elem(), seen)
	case reflect.Map:
		if t.Elem().Kind() != reflect.Interface && speaks(t.Elem(), seen) {
			panic("api: sentences in a map cannot be said again: " + t.String())
		}
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(t) {
			if f.IsExported() && speaks(f.Type, seen) {
				return true
			}
		}
	case reflect.Interface:
		return t.NumMethod() == 0
	}
	return false
}

// say says all sentences of an answer, which v points to, in a reader's language.
func say(v any, p *words.Printer) { retell(reflect.ValueOf(v).Elem(), p) }

func retell(v reflect.Value, p *words.Printer) {
	if job, is := v.Addr().Interface().(*JobView); is {
		job.in(p)
		return
	}
	if f, known := sentences[v.Type()]; known {
		if f != nil {
			f(v.Addr().Interface(), p)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		switch v = v.Elem(); {
		case v.IsValid() && v.CanAddr():
			retell(v, p)
		case v.IsValid() && v.Kind() == reflect.Pointer && !v.IsNil(): // within an any
			retell(v.Elem(), p)
		}
	case reflect.Slice, reflect.Array:
		if speaks(v.Type(), map[reflect.Type]bool{}) {
			for i := range v.Len() {
				retell(v.Index(i), p)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				retell(v.Field(i), p)
			}
		}
	}
}

// in says the sentences of a job's result again: of a backtest there are some.
func (v *JobView) in(p *words.Printer) {
	if v.Kind != belfry.BacktestJob || len(v.Result) == 0 {
		return
	}
	var report belfry.BacktestReport
	if json.Unmarshal(v.Result, &report) != nil {
		return // of another version: as it was made
	}
	say(&report, p)
	if raw, err := json.Marshal(&report); err == nil {
		v.Result = raw
	}
}
