package belfry

import (
	"fmt"
	"strings"
)

// Reason is one machine- and human-readable cause of a decision. Code is
// stable; the other fields say what it speaks of, empty where they do not
// apply. Stages return reasons instead of booleans, and door 2 stores them.
type Reason struct {
	Code         string `json:"code"`
	Subscription string `json:"subscription,omitempty"`
	Rule         int    `json:"rule,omitempty"`   // 1-based position in Subscription.Recipients; 0 = none
	Object       string `json:"object,omitempty"` // where a grant, a mute, a scope sits
	Role         string `json:"role,omitempty"`
	Group        string `json:"group,omitempty"`
	Detail       string `json:"detail,omitempty"` // free words: a date, a pattern, a fault
}

// Codes of reasons. The first block says why an event matched, the second why
// somebody was named, the third why somebody was not told, the fourth what
// decided a channel.
const (
	ScopeMatched  = "scope_matched"
	TypeMatched   = "type_matched"
	FilterTrue    = "filter_true"
	FilterFalse   = "filter_false"
	LookupStopped = "lookup_stopped" // an object between does not look further up
	LookupNearer  = "lookup_nearer"  // a closer object has subscriptions of its own
	ScopeMissed   = "scope_missed"
	TypeMissed    = "type_missed"
	ObjectMissed  = "object_type_missed"
	FilterPending = "filter_pending" // asked without an event that the filter could look at
	FilterFault   = "filter_fault"   // the filter failed on this event: counts as no match

	NamedUser     = "named_user"
	NamedGroup    = "named_group"
	NamedAddress  = "named_address"
	NamedMember   = "named_member"
	NamedRole     = "named_role"
	NamedRelated  = "named_related"
	NamedWorkflow = "named_workflow"
	NamedComputed = "named_computed"
	NamedEndpoint = "named_endpoint"
	NamedScript   = "named_script"

	Blacklisted        = "blacklisted"
	IsActor            = "is_actor"
	OptedOut           = "opted_out"
	NoLongerNamed      = "no_longer_named" // left the group, the role or the subscription before the send
	UserIsSuspended    = "user_suspended"
	UserIsDeleted      = "user_deleted"
	UserUnknown        = "user_unknown"
	GroupUnknown       = "group_unknown"
	GroupTooDeep       = "group_too_deep"
	GrantInactive      = "grant_inactive"
	GrantBlocked       = "grant_blocked" // an object between does not inherit the role
	FlagNoRoles        = "flag_no_local"
	FlagOnlyLocal      = "flag_local_only"
	PlaceNoRoles       = "place_no_local"   // object settings, as the flag of an event
	PlaceOnlyLocal     = "place_local_only" // object settings, as the flag of an event
	PlaceIsSilent      = "place_silent"     // object settings, as the flag of an event
	RuleFault          = "rule_fault"       // a rule could not be worked out for this event: it names nobody
	RuleCut            = "rule_cut"         // a rule gave more names than are taken
	MayNotSee          = "may_not_see"
	MayNotSubscribe    = "may_not_subscribe"
	ObjectHidden       = "object_hidden"
	JoinedElsewhere    = "joined_elsewhere"
	Muted              = "muted"
	LevelIsNone        = "level_none"
	NotAboutThem       = "level_related"
	GlobalStop         = "global_stop"
	FrequencyIsNever   = "frequency_never"
	NoAddress          = "no_address"
	NotVerified        = "address_not_verified"
	ContactDisabled    = "contact_disabled"
	ContactDead        = "contact_dead"
	SameAddress        = "same_address"
	ChannelForbidden   = "channel_forbidden"
	ChannelOff         = "channel_off" // chosen when it was planned, and not any more
	ChannelUnknown     = "channel_unknown"
	NoChannel          = "no_channel"
	EndpointUnknown    = "endpoint_unknown"
	EndpointIsDisabled = "endpoint_disabled"
	EventIsSilent      = "event_silent"
	RepeatInCommit     = "commit_repeat" // the act had this type on this object before
	ChildInCommit      = "commit_child"  // the act has this type on the object's parent
	SubscriptionGone   = "subscription_gone"
	SubscriptionWaits  = "subscription_paused" // what was planned of it waits until it is resumed
	EventExpired       = "expired"
	ReplayDelivered    = "already_delivered"
	PlanningFault      = "planning_fault" // a stage failed on this event; a replay plans it again
	NobodyNamed        = "nobody_named"   // no rule of any matching subscription names this principal

	IsThrottled    = "throttled"      // the subscription told her often enough
	ThrottleWaits  = "throttle_waits" // likewise, and what is told together waits until it may
	OverDailyLimit = "daily_limit"    // waits for another day
	OverAccount    = "account_limit"  // the channel's provider takes no more now
	OverShare      = "tenant_limit"   // the server's operator lets this tenant send no more by the channel now

	FellBack     = "fell_back"     // another contact or channel failed for good
	Escalated    = "escalated"     // nobody acknowledged in time
	Acknowledged = "acknowledged"  // the recipient did
	MessageNone  = "message_none"  // the subscription's expression of the message says that there is none
	MessageFault = "message_fault" // that expression could not be worked out: told in the template's words

	ConditionCounted = "condition_counted" // it counts for a condition, and is told when that is met
	ConditionIsMet   = "condition_met"
	ConditionIsOver  = "condition_resolved"
	ConditionLate    = "condition_late"     // it happened too long ago to count
	ConditionFuture  = "condition_future"   // it says that it happens later: counted as of now
	ConditionFault   = "condition_fault"    // its group could not be worked out
	ConditionNoValue = "condition_no_value" // what it looks at could not be worked out
	ConditionFull    = "condition_full"     // there is no room for another group
	ConditionEnded   = "condition_ended"    // its time is over
	ConditionReplay  = "condition_replay"   // replays do not count

	Resolved           = "resolved"             // another event ended what it told of
	MutedUntilResolved = "muted_until_resolved" // by the person, of this problem

	ReplayOpen  = "on_its_way"
	InDigest    = "in_digest"      // waits to be told together with others
	InQuiet     = "in_quiet_hours" // likewise, until the person's quiet hours end
	SentNow     = "sent_now"       // before its time, and past what limits hold back: somebody said so
	NothingLeft = "nothing_left"   // of a digest: each of its items was left out
	CancelledBy = "cancelled"

	NotAuthorised    = "not_authorised"    // by the platform's authoriser
	AuthoriserSilent = "authoriser_silent" // it did not answer in time
	AwaitsAuthoriser = "awaits_authoriser"

	Erased = "erased" // with all else that was held about the person

	ByNobody       = "by_nobody" // nothing speaks of it
	ByForced       = "by_forced"
	ByMember       = "by_member"
	ByPreference   = "by_preference"
	BySubscription = "by_subscription"
	ByType         = "by_type_default"
	ByTenant       = "by_tenant_default"
	ByMandatory    = "by_mandatory"
)

// Names reports whether somebody was named by what the reason speaks of.
func (r *Reason) Names() bool { return strings.HasPrefix(r.Code, "named_") }

// NamesJoined reports whether somebody was named for having joined, herself.
func (r *Reason) NamesJoined() bool { return r.Code == NamedMember && r.Group == "" }

// Text is the reason in plain English, one sentence without a full stop.
func (r Reason) Text() string {
	text, ok := texts[r.Code]
	if !ok {
		text = r.Code
	}
	if r.Role != "" {
		text += fmt.Sprintf(", role %s", r.Role)
	}
	if r.Group != "" {
		text += fmt.Sprintf(", group %s", r.Group)
	}
	if r.Object != "" {
		text += fmt.Sprintf(", at %s", r.Object)
	}
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text
}

var texts = map[string]string{
	ScopeMatched:  "the event happened within the subscription's scope",
	TypeMatched:   "the event's type is one it asks for",
	FilterTrue:    "its filter is true for this event",
	FilterFalse:   "its filter is false for this event",
	LookupStopped: "subscriptions above the object do not apply there",
	LookupNearer:  "a closer object has subscriptions of its own for this type",
	ScopeMissed:   "the event happened outside the subscription's scope",
	TypeMissed:    "the event's type is none it asks for",
	ObjectMissed:  "the object is of no type it asks for",
	FilterPending: "its filter decides by what the event says",
	FilterFault:   "its filter could not be evaluated for this event",

	NamedUser:     "named by the subscription",
	NamedGroup:    "member of a group the subscription names",
	NamedAddress:  "address named by the subscription",
	NamedMember:   "joined the subscription",
	NamedRole:     "holds a role the subscription names",
	NamedRelated:  "the event is about them",
	NamedWorkflow: "took part in the workflow",
	NamedComputed: "named by the subscription's expression",
	NamedEndpoint: "endpoint named by the subscription",
	NamedScript:   "script named by the subscription",

	Blacklisted:        "on the subscription's list of exclusions",
	IsActor:            "did it themselves, and the subscription leaves out the actor",
	NoLongerNamed:      "nothing names them any more",
	OptedOut:           "opted out of this subscription",
	UserIsSuspended:    "the user is suspended",
	UserIsDeleted:      "the user is deleted",
	UserUnknown:        "no such user is known",
	GroupUnknown:       "no such group is known",
	GroupTooDeep:       "groups are nested too deeply",
	GrantInactive:      "the role is not active",
	GrantBlocked:       "the role is not inherited here",
	FlagNoRoles:        "the event asks that role holders are not told",
	FlagOnlyLocal:      "the event asks that only roles on the object itself count",
	PlaceNoRoles:       "role holders are not told of what happens directly there",
	PlaceOnlyLocal:     "only roles on the object itself count there",
	PlaceIsSilent:      "nobody is told of what happens there",
	RuleFault:          "a rule of the subscription could not be worked out for this event",
	RuleCut:            "a rule of the subscription names more people than are taken",
	MayNotSee:          "may not see this",
	MayNotSubscribe:    "may not subscribe to this",
	ObjectHidden:       "the object is hidden",
	JoinedElsewhere:    "joined at another place",
	Muted:              "muted",
	LevelIsNone:        "switched off by preference",
	NotAboutThem:       "wants only what is about them",
	GlobalStop:         "stopped all messages",
	FrequencyIsNever:   "paused: the frequency is never",
	NoAddress:          "has no address for this channel",
	NotVerified:        "the address is not verified",
	ContactDisabled:    "the address is switched off",
	ContactDead:        "the address is dead",
	SameAddress:        "another recipient with the same address is told",
	ChannelForbidden:   "an administrator forbids this channel for this type",
	ChannelOff:         "the channel was switched off before it was told",
	ChannelUnknown:     "no such channel is set up",
	NoChannel:          "no channel is left",
	EndpointUnknown:    "no such endpoint exists",
	EndpointIsDisabled: "the endpoint is disabled",
	RepeatInCommit:     "the same act did this to the object before, and that was told",
	ChildInCommit:      "the same act did this to the object it is in, and that is told",
	EventIsSilent:      "the event is marked silent",
	SubscriptionGone:   "the subscription has ended",
	SubscriptionWaits:  "the subscription is paused",
	EventExpired:       "too late to be told",
	ReplayDelivered:    "was told before",
	PlanningFault:      "the event could not be planned",
	NobodyNamed:        "no rule names them",
	IsThrottled:        "told often enough: it is in the inbox alone",
	ThrottleWaits:      "told often enough for now",
	OverAccount:        "the channel may send no more for now",
	OverShare:          "this platform may send no more by the channel for now",
	OverDailyLimit:     "over the daily limit",
	FellBack:           "another way failed",
	Escalated:          "nobody acknowledged in time",
	Acknowledged:       "acknowledged meanwhile",
	MessageNone:        "the subscription has no message for them",
	MessageFault:       "the subscription's message could not be worked out, so the template's words are told",
	ConditionCounted:   "it counts for the condition, which tells when it is met",
	ConditionIsMet:     "the condition is met",
	ConditionIsOver:    "what the condition told of is over",
	ConditionLate:      "it happened too long ago to count for the condition",
	ConditionFuture:    "it says that it happens later, and counts as of when it came",
	ConditionFault:     "its group could not be worked out, so it does not count for the condition",
	ConditionNoValue:   "the value that the condition watches could not be worked out, so it does not count",
	ConditionFull:      "the condition watches as many groups as it may, so it does not count",
	ConditionEnded:     "the condition has ended",
	ConditionReplay:    "what is planned again does not count for a condition",
	Resolved:           "what it tells of was resolved before it was told",
	MutedUntilResolved: "muted until it is resolved",
	ReplayOpen:         "is on its way already",
	InDigest:           "is told in a digest",
	InQuiet:            "is told when quiet hours end",
	SentNow:            "sent now, as somebody said",
	NothingLeft:        "nothing was left to tell",
	CancelledBy:        "was cancelled",
	Erased:             "the person was erased",
	NotAuthorised:      "the platform says that they may not see this",
	AuthoriserSilent:   "the platform did not say in time whether they may see this",
	AwaitsAuthoriser:   "waits for the platform to say whether they may see this",

	ByNobody:       "nothing was chosen",
	ByForced:       "the administrator forces this channel for this type",
	ByMember:       "chosen when joining",
	ByPreference:   "chosen in their preferences",
	BySubscription: "chosen by the subscription",
	ByType:         "the default of this event type",
	ByTenant:       "the default of this service",
	ByMandatory:    "a mandatory notice",
}
