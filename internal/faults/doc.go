// Package faults holds no code, only tests that do to the real program what
// the world does to it: kill it in the middle of its work, take its database
// away, fill its disk, send it nonsense, and give it receivers that hang,
// reset, flap and never end. The program is built once and run as child
// processes on real sockets; receivers are real HTTP servers.
//
// It promises that what is claimed of faults is shown: every event that was
// answered 202 ends delivered to everybody it was for, exactly once in an
// inbox and on an endpoint but for sends in flight at a kill; errors have
// words and the right status; the process never dies of what it is given.
//
// It refuses parts that stand for ours, and anything but Linux: faults are
// made with its signals, limits and mounts. Killing a process does not take
// the page cache with it, so a power cut is not shown here; synced commits are
// the store's promise.
//
// A test begins with newHome and start; load_test.go has producers and
// receivers that keep account, of which settle makes the account of a fault:
// what was accepted is what was delivered, or recorded as failed or suppressed.
// Tests run side by side (t.Parallel), but for those of several nodes under
// load: what they say of leases and of sends in flight is said of nodes that get
// their turn on the processor.
// With BELFRY_SOAK (make soak) whatever goes over rounds goes on for a share of
// that time.
package faults
