package match

import "github.com/belfryhq/belfry/internal/belfry"

// Collapse is why an event is not told because another one of the same act of
// the platform is; nil when it is told. parent is the object its own is in;
// first gives, of the events of its type in its act, the first one accepted on
// its object and on parent.
//
// Of repeats the first one accepted is told. A child is left out whenever the
// parent's event was accepted by the time it is looked at, before or after it:
// an act that deletes names what is inside first. So what belongs together is
// sent together, or the parent first.
func Collapse(e *belfry.Accepted, parent string, first map[string]string) *belfry.Reason {
	if id := first[e.Event.ObjectOrRoot()]; id != "" && id < e.EventID {
		return &belfry.Reason{Code: belfry.RepeatInCommit, Object: e.Event.ObjectOrRoot(), Detail: id}
	}
	if id := first[parent]; parent != "" && id != "" {
		return &belfry.Reason{Code: belfry.ChildInCommit, Object: parent, Detail: id}
	}
	return nil
}
