package route

import (
	"github.com/belfryhq/belfry/internal/belfry"
)

// Often is how often somebody is told, and who decided it.
type Often struct {
	Frequency *belfry.Frequency // nil = immediately
	By        belfry.Reason

	wait *belfry.Bundling // what that comes to now; nil = at once and alone
}

// often decides the frequency of one way: the member's setting, the preference,
// the subscription, the type's default and the tenant's, the first that names
// one. A mandatory notice does not ask the person, and never holds for nobody.
func (p *plan) often(via *belfry.Via, pref *Effective) Often {
	mandatory := p.mandatory(via)
	id := ""
	if via.Match != nil {
		id = via.Match.Subscription.ID
	}
	switch {
	case via.Match != nil && via.Match.Escalation > 0: // whoever escalates is in a hurry
		return Often{}
	case !mandatory && via.Member != nil && via.Member.Frequency != nil:
		return Often{Frequency: via.Member.Frequency, By: belfry.Reason{Code: belfry.ByMember, Subscription: id, Object: via.Member.Object}}
	case !mandatory && pref.Frequency != nil:
		return Often{Frequency: pref.Frequency.Frequency, By: belfry.Reason{Code: belfry.ByPreference, Object: pref.Frequency.Object, Detail: detail(pref.Frequency, "")}}
	case via.Match != nil && via.Match.Subscription.Frequency != nil:
		return spoken(mandatory, via.Match.Subscription.Frequency, belfry.Reason{Code: belfry.BySubscription, Subscription: id})
	case p.in.Type.Frequency != nil:
		return spoken(mandatory, p.in.Type.Frequency, belfry.Reason{Code: belfry.ByType})
	case p.in.Often != nil:
		return spoken(mandatory, p.in.Often, belfry.Reason{Code: belfry.ByTenant})
	}
	return Often{}
}

func spoken(mandatory bool, f *belfry.Frequency, by belfry.Reason) Often {
	if mandatory && f.Every == belfry.Never {
		return Often{Frequency: nil, By: belfry.Reason{Code: belfry.ByMandatory}}
	}
	return Often{Frequency: f, By: by}
}

func (o Often) never() bool { return o.Frequency != nil && o.Frequency.Every == belfry.Never }

// paused is the reason of a way whose frequency is never.
func (o Often) paused() *belfry.Reason {
	return &belfry.Reason{Code: belfry.FrequencyIsNever, Subscription: o.By.Subscription, Object: o.By.Object, Detail: o.By.Detail}
}

// sooner reports whether a message is due earlier with o than with other.
func (o Often) sooner(other Often) bool {
	if o.wait == nil || other.wait == nil {
		return o.wait == nil && other.wait != nil
	}
	return o.wait.Least().Before(other.wait.Least())
}

// paused is the reason why nothing is told when every choice is paused.
func (cs choices) paused() *belfry.Reason {
	for i := range cs {
		if cs[i].blocked != nil {
			return cs[i].blocked
		}
	}
	return nil
}

// prefer is the person's effective preference for the event.
func (p *plan) prefer(person *belfry.Person) Effective {
	if len(person.Preferences) == 0 {
		return Effective{}
	}
	return Prefer(person.Preferences, About{
		Type: p.in.Event.Event.Type, Category: p.in.Type.Category, Ancestors: p.in.Ancestors, Now: p.in.Now, Zone: person.User.Zone(),
	})
}
