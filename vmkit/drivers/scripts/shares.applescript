-- osascript shares.applescript UUID [PATH]...: replace the folders that a machine shares.
on run argv
	set theId to item 1 of argv
	set theFolders to {}
	repeat with i from 2 to count of argv
		set end of theFolders to POSIX file (item i of argv)
	end repeat
	tell application "UTM" to update registry of (virtual machine id theId) with theFolders
end run
