package resolve

import "github.com/belfryhq/belfry/internal/belfry"

// flags are what narrows an event's recipients, each with why; nil = it does
// not.
type flags struct {
	noRoles   *belfry.Reason // role rules name nobody
	onlyLocal *belfry.Reason // merged origins are local
	silent    *belfry.Reason // nobody is told
}

// flagsOf puts together the flags of an event and those of the objects it
// happened in. An event that says how local it is has the last word on that.
// notify_no_local of an object is for what happens to it and directly in it,
// the other two are for all below it.
func flagsOf(e *belfry.Event, chain []belfry.Object) (f flags) {
	if e.Has(belfry.FlagSilent) {
		f.silent = &belfry.Reason{Code: belfry.EventIsSilent}
	}
	if e.Has(belfry.FlagNoLocal) {
		f.noRoles = &belfry.Reason{Code: belfry.FlagNoRoles}
	}
	if e.Has(belfry.FlagLocalOnly) {
		f.onlyLocal = &belfry.Reason{Code: belfry.FlagOnlyLocal}
	}
	own := f.noRoles != nil || f.onlyLocal != nil
	for i := range chain {
		s := chain[i].Settings
		if s == nil {
			continue
		}
		set := func(flag string, reason **belfry.Reason, code string) {
			if *reason == nil && s.Has(flag) {
				*reason = &belfry.Reason{Code: code, Object: chain[i].ID}
			}
		}
		set(belfry.FlagSilent, &f.silent, belfry.PlaceIsSilent)
		if own {
			continue
		}
		if i <= 1 {
			set(belfry.FlagNoLocal, &f.noRoles, belfry.PlaceNoRoles)
		}
		set(belfry.FlagLocalOnly, &f.onlyLocal, belfry.PlaceOnlyLocal)
	}
	return f
}
