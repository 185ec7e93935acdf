-- osascript duplicate.applescript UUID NAME: copy a stopped machine under another name.
on run argv
	set theId to item 1 of argv
	set theName to item 2 of argv
	with timeout of 3600 seconds
		tell application "UTM" to duplicate (virtual machine id theId) with properties {configuration:{name:theName}}
	end timeout
end run
