// Package route decides by which channels each recipient of an event is told,
// at which address and when, and writes down why: a Delivery for every message
// to be sent, at once, held over quiet hours or as an item of a digest; a
// Suppression for every one that is not. It is pure functions: Plan; Prefer,
// what the effective preference of a person is; Ready, whether a digest that is
// due goes; Instead, the other ways for what will never arrive.
//
// It promises the order of who decides: the administrator's forbid or force,
// a mandatory notice, the global stop, the member's setting, the person's
// preference, the subscription, the type's default, the tenant's default; the
// first that speaks of a matter decides it, and the reason says which did and
// at which object. No recipient is passed over in silence, one address is told
// once on a channel, and the same input gives the same deliveries with the
// same ids.
//
// It refuses I/O and clocks: facts and the time are arguments. It does not
// know how a channel sends.
//
// Testing against it needs literals only.
package route
