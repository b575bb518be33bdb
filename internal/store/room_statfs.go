//go:build linux || darwin

package store

import "syscall"

// Room is how many bytes the disk of a folder still takes, below 0 when unknown.
func Room(folder string) int64 {
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		return -1
	}
	return int64(s.Bavail) * int64(s.Bsize)
}
